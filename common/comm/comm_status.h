#pragma once

#include "absl/status/status.h"
#include "common/comm/communicator.h"

namespace imageddpo {

/// A CommError as it crosses a job's boundary: kPeerFailed UNAVAILABLE, kTimeout DEADLINE_EXCEEDED,
/// kAborted ABORTED, kTransport INTERNAL.
inline absl::Status ToStatus(const CommError& error) {
  switch (error.kind()) {
    case CommError::Kind::kPeerFailed:
      return absl::UnavailableError(error.what());
    case CommError::Kind::kTimeout:
      return absl::DeadlineExceededError(error.what());
    case CommError::Kind::kAborted:
      return absl::AbortedError(error.what());
    case CommError::Kind::kTransport:
      break;
  }
  return absl::InternalError(error.what());
}

}  // namespace imageddpo
