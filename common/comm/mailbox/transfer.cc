#include "common/comm/mailbox/transfer.h"

#include "absl/strings/str_cat.h"

namespace imageddpo {

void Transfer::Complete() { End(State::kDone, CommError::Kind::kTransport, ""); }

void Transfer::Fail(CommError::Kind kind, const std::string& message) {
  End(State::kFailed, kind, message);
}

void Transfer::End(State state, CommError::Kind kind, const std::string& message) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (state_ != State::kPending) {
      return;
    }
    state_ = state;
    kind_ = kind;
    message_ = message;
    ended_.notify_all();
  }
  if (on_done_) {
    on_done_();
  }
}

bool Transfer::Done() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_ != State::kPending;
}

bool Transfer::WaitUntilDone(std::chrono::nanoseconds timeout) const {
  std::unique_lock<std::mutex> lock(mutex_);
  return ended_.wait_for(lock, timeout, [this] { return state_ != State::kPending; });
}

void Transfer::ThrowIfFailed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == State::kFailed) {
    throw CommError(kind_, absl::StrCat(what_, ": ", message_));
  }
}

}  // namespace imageddpo
