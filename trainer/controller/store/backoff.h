#pragma once

#include <algorithm>

namespace imageddpo {

/// When to try again what has failed: after 1 s, then twice as long each time, at most 30 s. Knows
/// no clock: it is told the time, in seconds that never go back. Thread-compatible.
class Backoff {
 public:
  void Failed(double now_s) {
    wait_s_ = wait_s_ == 0 ? kFirstSeconds : std::min(kLongestSeconds, 2 * wait_s_);
    next_s_ = now_s + wait_s_;
  }
  void Worked() { wait_s_ = 0; }

  /// Whether the last attempt failed.
  bool failing() const { return wait_s_ > 0; }
  bool IsDue(double now_s) const { return !failing() || now_s >= next_s_; }

 private:
  static constexpr double kFirstSeconds = 1;
  static constexpr double kLongestSeconds = 30;

  double wait_s_ = 0;
  double next_s_ = 0;
};

}  // namespace imageddpo
