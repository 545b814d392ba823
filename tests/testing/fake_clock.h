#pragma once

#include <mutex>

#include "common/base/clock.h"

namespace imageddpo {

/// A clock that stands still until a test moves it. Sleeping moves it too, at once. Thread-safe.
class FakeClock : public Clock {
 public:
  /// @param unix_seconds  wall time at the start; the monotonic clock starts at 0.
  explicit FakeClock(double unix_seconds = 1'700'000'000.0) : start_unix_seconds_(unix_seconds) {}

  double NowSeconds() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return now_seconds_;
  }
  double UnixSeconds() const override { return start_unix_seconds_ + NowSeconds(); }
  void SleepSeconds(double seconds) override { Advance(seconds); }

  /// Moves both clocks forward; nothing for seconds <= 0.
  void Advance(double seconds) {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_seconds_ += seconds > 0 ? seconds : 0;
  }

 private:
  const double start_unix_seconds_;
  mutable std::mutex mutex_;
  double now_seconds_ = 0;
};

}  // namespace imageddpo
