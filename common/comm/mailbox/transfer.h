#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/communicator.h"

namespace imageddpo {

/// The outcome of one message under way, shared by the waiting caller and the transport that
/// carries it. Only the first call of Complete() or Fail() has an effect. Thread-safe.
class Transfer {
 public:
  /// @param what     for error texts: "receive from rank 2 (tag 7)".
  /// @param on_done  called once, on the thread that completes or fails the transfer.
  explicit Transfer(std::string what, std::function<void()> on_done = nullptr)
      : what_(std::move(what)), on_done_(std::move(on_done)) {}

  void Complete();
  void Fail(CommError::Kind kind, const std::string& message);

  /// Whether Complete() or Fail() has been called.
  bool Done() const;

  /// Blocks until Done(). @return false if `timeout` passed first.
  bool WaitUntilDone(std::chrono::nanoseconds timeout) const;

  /// @throws CommError  if Fail() was called; nothing otherwise.
  void ThrowIfFailed() const;

  const std::string& what() const { return what_; }

 private:
  enum class State { kPending, kDone, kFailed };

  void End(State state, CommError::Kind kind, const std::string& message);

  const std::string what_;
  const std::function<void()> on_done_;
  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kPending;
  CommError::Kind kind_ ABSL_GUARDED_BY(mutex_) = CommError::Kind::kTransport;
  std::string message_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
