#include "common/comm/mailbox/command_queue.h"

#include <utility>

#include "absl/time/time.h"

namespace imageddpo {

void CommandQueue::Post(Command command) {
  absl::MutexLock lock(&mutex_);
  if (!closed_) {
    commands_.push_back(std::move(command));
  }
}

std::vector<CommandQueue::Command> CommandQueue::Take(std::chrono::nanoseconds timeout) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return closed_ || !commands_.empty();
  };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), absl::FromChrono(timeout));
  return std::exchange(commands_, {});
}

void CommandQueue::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
}

bool CommandQueue::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

}  // namespace imageddpo
