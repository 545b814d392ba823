#include "deploy/imageddpo/client/exit_codes.h"

#include <iostream>
#include <string>

#include "common/base/rejection.h"
#include "common/base/text.h"

namespace imageddpo {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kUsage;
    case absl::StatusCode::kCancelled:
      return ExitCode::kInterrupted;
    default:
      return ExitCode::kJobFailed;
  }
}

ExitCode Report(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  std::cerr << "imageddpo: " << Printable(std::string(status.message()), /*keep_newlines=*/true)
            << std::endl;
  const Rejection rejection = RejectionOf(status);
  const bool adds_something =
      rejection.violations.empty() && rejection.reason != absl::StatusCodeToString(status.code());
  if (adds_something) std::cerr << "reason: " << Printable(rejection.reason) << std::endl;
  return ExitCodeOf(status);
}

}  // namespace imageddpo
