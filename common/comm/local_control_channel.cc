#include "common/comm/local_control_channel.h"

#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/blocking_queue.h"
#include "common/comm/valid_texts.h"

namespace imageddpo {
class LocalControlPlane::State {
 public:
  explicit State(std::vector<int> ranks) : worker_ranks(std::move(ranks)) {
    for (const int rank : worker_ranks) {
      to_worker[rank];
    }
  }

  const std::vector<int> worker_ranks;
  BlockingQueue<std::pair<int, v1::WorkerMessage>> to_controller;
  std::map<int, BlockingQueue<v1::ControllerMessage>>
      to_worker;  // Filled by the constructor alone.

  absl::Mutex mutex;
  std::map<int, std::string> failed ABSL_GUARDED_BY(mutex);
  std::set<int> reported ABSL_GUARDED_BY(mutex);
  bool controller_failed ABSL_GUARDED_BY(mutex) = false;
};

class LocalControlPlane::Controller : public ControllerChannel {
 public:
  explicit Controller(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::vector<int> worker_ranks() const override { return state_->worker_ranks; }

  void Send(int world_rank, v1::ControllerMessage message) override {
    {
      absl::MutexLock lock(&state_->mutex);
      if (state_->failed.count(world_rank) > 0) {
        return;
      }
    }
    MakeTextsValid(&message);
    state_->to_worker.at(world_rank).Put(std::move(message));
  }

  std::optional<std::pair<int, v1::WorkerMessage>> Receive(
      std::chrono::milliseconds timeout) override {
    return state_->to_controller.Take(absl::FromChrono(timeout));
  }

  std::vector<Failure> TakeFailures() override {
    absl::MutexLock lock(&state_->mutex);
    std::vector<Failure> failures;
    for (const auto& [rank, reason] : state_->failed) {
      if (state_->reported.insert(rank).second) {
        failures.push_back({rank, reason});
      }
    }
    return failures;
  }

 private:
  const std::shared_ptr<State> state_;
};

class LocalControlPlane::Worker : public WorkerChannel {
 public:
  Worker(std::shared_ptr<State> state, int world_rank)
      : state_(std::move(state)), world_rank_(world_rank) {}

  int world_rank() const override { return world_rank_; }

  void Send(v1::WorkerMessage message) override {
    {
      absl::MutexLock lock(&state_->mutex);
      if (state_->failed.count(world_rank_) > 0) {
        return;
      }
    }
    MakeTextsValid(&message);
    state_->to_controller.Put({world_rank_, std::move(message)});
  }

  std::optional<v1::ControllerMessage> Receive(std::chrono::milliseconds timeout) override {
    return state_->to_worker.at(world_rank_).Take(absl::FromChrono(timeout));
  }

  bool ControllerFailed() override {
    absl::MutexLock lock(&state_->mutex);
    return state_->controller_failed;
  }

 private:
  const std::shared_ptr<State> state_;
  const int world_rank_;
};

LocalControlPlane::LocalControlPlane(std::vector<int> worker_ranks)
    : state_(std::make_shared<State>(std::move(worker_ranks))),
      controller_(std::make_unique<Controller>(state_)) {
  for (const int rank : state_->worker_ranks) {
    workers_.push_back(std::make_unique<Worker>(state_, rank));
  }
}

LocalControlPlane::~LocalControlPlane() = default;

ControllerChannel& LocalControlPlane::controller() { return *controller_; }

WorkerChannel& LocalControlPlane::worker(int world_rank) {
  for (const auto& worker : workers_) {
    if (worker->world_rank() == world_rank) {
      return *worker;
    }
  }
  throw std::out_of_range("LocalControlPlane: no worker of this rank");
}

void LocalControlPlane::FailWorker(int world_rank, const std::string& reason) {
  absl::MutexLock lock(&state_->mutex);
  state_->failed.emplace(world_rank, reason);
}

void LocalControlPlane::FailController() {
  absl::MutexLock lock(&state_->mutex);
  state_->controller_failed = true;
}

}  // namespace imageddpo
