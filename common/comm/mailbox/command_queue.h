#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace imageddpo {

/// Work that other threads hand to one thread, in order. Thread-safe.
class CommandQueue {
 public:
  using Command = std::function<void()>;

  /// Queues a command and wakes the thread. Dropped after Close().
  void Post(Command command);

  /// All commands queued since the last call; waits up to `timeout` for the first.
  std::vector<Command> Take(std::chrono::nanoseconds timeout);

  /// Wakes the thread, which ends.
  void Close();
  bool closed() const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace imageddpo
