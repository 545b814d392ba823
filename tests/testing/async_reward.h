#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// A reward that scores each batch on a thread of its own, as one does that asks another process.
/// The destructor waits for the threads.
class AsyncReward final : public Reward {
 public:
  using Function = std::function<absl::StatusOr<RewardOutput>(const RewardBatch&)>;
  AsyncReward(std::string name, Function function)
      : name_(std::move(name)), function_(std::move(function)) {}
  ~AsyncReward() override {
    for (std::thread& thread : threads_) thread.join();
  }

  std::string name() const override { return name_; }

  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override {
    std::promise<absl::StatusOr<RewardOutput>> promise;
    auto pending = std::make_unique<Pending>(promise.get_future());
    threads_.emplace_back(
        [batch = std::move(batch), promise = std::move(promise), function = function_]() mutable {
          promise.set_value(function(*batch));
        });
    return pending;
  }

  absl::Status CheckDataset(const Dataset&, int, int) override { return absl::OkStatus(); }

 private:
  class Pending final : public PendingReward {
   public:
    explicit Pending(std::future<absl::StatusOr<RewardOutput>> output)
        : output_(std::move(output)) {}
    absl::StatusOr<RewardOutput> Wait(RewardDeadline deadline) override {
      if (output_.wait_until(deadline) == std::future_status::ready) return output_.get();
      return absl::DeadlineExceededError("no scores in time; the thread is still at work");
    }

   private:
    std::future<absl::StatusOr<RewardOutput>> output_;
  };

  std::string name_;
  Function function_;
  std::vector<std::thread> threads_;
};

}  // namespace imageddpo
