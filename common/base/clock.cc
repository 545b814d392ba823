#include "common/base/clock.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <thread>

#include "absl/strings/str_format.h"

namespace imageddpo {

std::string Clock::WallTime() const { return FormatRfc3339(UnixSeconds()); }

double SystemClock::NowSeconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double SystemClock::UnixSeconds() const {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void SystemClock::SleepSeconds(double seconds) {
  if (seconds > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
}

std::string FormatRfc3339(double unix_seconds) {
  const auto unix_ms = static_cast<std::int64_t>(std::floor(unix_seconds * 1000.0));
  const std::int64_t milliseconds = ((unix_ms % 1000) + 1000) % 1000;
  const std::time_t whole_seconds = (unix_ms - milliseconds) / 1000;
  std::tm utc{};
  gmtime_r(&whole_seconds, &utc);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                         utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds);
}

}  // namespace imageddpo
