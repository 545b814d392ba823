#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "common/base/blocking_queue.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// Finds out, on a thread of its own and for one job after the other, whether the reward services
/// that jobs wait for are there again.
class RewardProbe {
 public:
  /// Asks a job's reward services and blocks meanwhile. `is_stopped` tells it to return at once.
  using Ask = std::function<bool(const ResolvedJob& job, const std::function<bool()>& is_stopped)>;
  /// Called on the probe's thread.
  using Answer = std::function<void(const std::string& job_id, bool is_back)>;

  RewardProbe(Ask ask, Answer answer);
  ~RewardProbe();  ///< Ends the question under way; waits for its thread.
  RewardProbe(const RewardProbe&) = delete;
  RewardProbe& operator=(const RewardProbe&) = delete;

  /// Returns at once; the answer comes later.
  void Put(const std::string& job_id, const ResolvedJob& job);

 private:
  struct Question {
    std::string job_id;
    ResolvedJob job;
  };
  void Run();

  const Ask ask_;
  const Answer answer_;
  BlockingQueue<Question> questions_;
  std::atomic<bool> is_stopped_ = false;
  std::thread thread_;
};

}  // namespace imageddpo
