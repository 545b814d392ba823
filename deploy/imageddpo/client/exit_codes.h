#pragma once

#include "absl/status/status.h"

namespace imageddpo {

/// What `imageddpo` ends with; documented in docs/errors.md.
enum class ExitCode : int {
  kOk = 0,
  kJobFailed = 1,    ///< The watched job failed or was cancelled; the service failed a request; or
                     ///< check-data found images that cannot be read.
  kUsage = 2,        ///< Wrong arguments, an unreadable file, an invalid job; nothing was changed.
  kNotFound = 3,     ///< No such job.
  kUnreachable = 4,  ///< No service answers.
  kInterrupted = 130,
};

/// The exit code for an error of the API or of a file.
ExitCode ExitCodeOf(const absl::Status& status);

/// Says what went wrong on standard error and returns its exit code.
ExitCode Report(const absl::Status& status);

}  // namespace imageddpo
