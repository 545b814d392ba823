#pragma once

#include <algorithm>

namespace imageddpo {

/// When to try again what has failed: after growing pauses, each twice as long as the one before.
/// Knows no clock: it is told the time, in seconds that never go back. Thread-compatible.
class Backoff {
 public:
  explicit Backoff(double first_s = 1, double longest_s = 30)
      : first_s_(first_s), longest_s_(longest_s) {}

  void Failed(double now_s) {
    wait_s_ = wait_s_ == 0 ? first_s_ : std::min(longest_s_, 2 * wait_s_);
    next_s_ = now_s + wait_s_;
  }
  void Worked() { wait_s_ = 0; }

  /// Whether the last attempt failed.
  bool failing() const { return wait_s_ > 0; }
  bool IsDue(double now_s) const { return !failing() || now_s >= next_s_; }

 private:
  double first_s_, longest_s_;
  double wait_s_ = 0;
  double next_s_ = 0;
};

}  // namespace imageddpo
