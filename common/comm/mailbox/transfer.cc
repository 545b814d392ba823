#include "common/comm/mailbox/transfer.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace imageddpo {

void Transfer::Complete() { End(State::kDone, CommError::Kind::kTransport, ""); }

void Transfer::Fail(CommError::Kind kind, const std::string& message) {
  End(State::kFailed, kind, message);
}

void Transfer::End(State state, CommError::Kind kind, const std::string& message) {
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != State::kPending) {
      return;
    }
    state_ = state;
    kind_ = kind;
    message_ = message;
  }
  if (on_done_) {
    on_done_();
  }
}

bool Transfer::Done() const {
  absl::MutexLock lock(&mutex_);
  return state_ != State::kPending;
}

bool Transfer::WaitUntilDone(std::chrono::nanoseconds timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto done = [this]()
                        ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return state_ != State::kPending; };
  return mutex_.AwaitWithTimeout(absl::Condition(&done), absl::FromChrono(timeout));
}

void Transfer::ThrowIfFailed() const {
  absl::MutexLock lock(&mutex_);
  if (state_ == State::kFailed) {
    throw CommError(kind_, absl::StrCat(what_, ": ", message_));
  }
}

}  // namespace imageddpo
