#include "common/comm/mailbox/operation.h"

#include "absl/strings/str_cat.h"

namespace imageddpo {

bool Operation::Advance() {
  try {
    while (!ended_) {
      while (!pending_.empty()) {
        if (!pending_.back()->Done()) {
          return false;
        }
        pending_.back()->ThrowIfFailed();
        pending_.pop_back();
      }
      pending_ = round_(next_round_++);
      ended_ = pending_.empty();
    }
  } catch (...) {
    error_ = std::current_exception();
    ended_ = true;
    pending_.clear();
  }
  round_ = nullptr;
  return true;
}

void Operation::WaitForTransfer(std::chrono::nanoseconds timeout) const {
  if (!pending_.empty()) {
    pending_.back()->WaitUntilDone(timeout);
  }
}

void Operation::ThrowIfFailed() const {
  if (error_ != nullptr) {
    std::rethrow_exception(error_);
  }
}

std::string Operation::Describe() const {
  return pending_.empty() || pending_.back()->what() == what_
             ? what_
             : absl::StrCat(what_, ", ", pending_.back()->what());
}

}  // namespace imageddpo
