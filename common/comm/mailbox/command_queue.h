#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace imageddpo {

/// Functions that other threads hand to one thread, which runs them in order. Thread-safe.
class CommandQueue {
 public:
  using Command = std::function<void()>;

  /// Queues a command and wakes the thread. After Close() commands are dropped.
  void Post(Command command);

  /// Returns all commands queued since the last call; waits up to `timeout` for the first.
  std::vector<Command> Take(std::chrono::nanoseconds timeout);

  /// Tells the thread to end, and wakes it.
  void Close();
  bool closed() const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace imageddpo
