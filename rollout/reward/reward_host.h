#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/base/clock.h"

namespace imageddpo {

/// What a reward that asks other processes needs of the rank that it works for. The default waits
/// without a word.
struct RewardHost {
  /// Called several times a second, on the thread that waits, while a reward waits for another
  /// process. @param waiting_for  what is away, since when and why; empty: an ordinary wait, or the
  /// end of it. A status that is not OK ends the wait with that status.
  std::function<absl::Status(const std::string& waiting_for)> watch = [](const std::string&) {
    return absl::OkStatus();
  };
  /// Shows a warning with the job.
  std::function<void(const std::string& warning)> warn = [](const std::string&) {};
  /// Told of each call of a reward service that has ended, on the thread that waits.
  std::function<void(bool ok, double seconds)> on_call = [](bool, double) {};
  const Clock* clock = nullptr;  ///< Null: the machine's.
};

}  // namespace imageddpo
