#pragma once

#include <string>

namespace imageddpo {

/// The only source of time, passed to everything that waits or measures, so that tests can control
/// it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  /// Seconds since some fixed moment; never goes back. For deadlines and durations.
  virtual double NowSeconds() const = 0;

  /// Seconds since 1970-01-01 UTC; may jump when the host's clock is set. For people and files.
  virtual double UnixSeconds() const = 0;

  /// Sleeps at least this long; a fake clock moves forward instead. Nothing for seconds <= 0.
  virtual void SleepSeconds(double seconds) = 0;

  /// UnixSeconds() as RFC 3339 in UTC with milliseconds: "2026-01-31T08:15:30.250Z".
  std::string WallTime() const;
};

/// The machine's own clocks.
class SystemClock : public Clock {
 public:
  double NowSeconds() const override;
  double UnixSeconds() const override;
  void SleepSeconds(double seconds) override;
};

/// RFC 3339 in UTC, rounded down to the millisecond.
std::string FormatRfc3339(double unix_seconds);

}  // namespace imageddpo
