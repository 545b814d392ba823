#pragma once

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/blocking_queue.h"

namespace imageddpo {

/// Runs the steps of calls that read files, one after the other on one thread, so that neither
/// gRPC's threads nor the controller's wait for the disk. A step should take milliseconds.
/// Thread-safe.
class FileThread {
 public:
  using Step = std::function<void()>;

  FileThread();
  /// The server whose calls it serves must have ended.
  ~FileThread();
  FileThread(const FileThread&) = delete;
  FileThread& operator=(const FileThread&) = delete;

  void Run(Step step) { steps_.Put(std::move(step)); }
  /// After a pause of a fraction of a second. Only from a step.
  void RunLater(Step step) { later_.push_back(std::move(step)); }

 private:
  void Loop();

  BlockingQueue<Step> steps_;
  std::vector<Step> later_;  // The thread's alone.
  std::thread thread_;
};

/// How many calls of a kind each caller has under way. Thread-safe.
class CallerPlaces {
 public:
  explicit CallerPlaces(int max_per_caller) : max_per_caller_(max_per_caller) {}

  int max_per_caller() const { return max_per_caller_; }
  /// Whether the caller may have one more, which then counts.
  bool Take(const std::string& owner);
  void GiveBack(const std::string& owner);

 private:
  const int max_per_caller_;
  absl::Mutex mutex_;
  std::map<std::string, int> calls_by_owner_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
