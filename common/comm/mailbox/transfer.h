#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "common/comm/communicator.h"

namespace imageddpo {

/// The outcome of one message under way, shared by the waiting caller and the transport that
/// carries it. Only the first call of Complete() or Fail() has an effect. Waits are measured by the
/// steady clock: those of absl::Mutex end early or late when the host's clock is set. Thread-safe.
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
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  // Under mutex_.
  State state_ = State::kPending;
  CommError::Kind kind_ = CommError::Kind::kTransport;
  std::string message_;
};

}  // namespace imageddpo
