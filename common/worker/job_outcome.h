#pragma once

#include <functional>

#include "absl/status/status.h"

namespace imageddpo {

/// Runs `job` and turns what it throws into a status: CommError as in communicator.h, memory that
/// ran out RESOURCE_EXHAUSTED (host and device), std::invalid_argument INVALID_ARGUMENT, any other
/// exception INTERNAL. Messages of libtorch lose their stack trace.
absl::Status RunCatching(const std::function<absl::Status()>& job);

}  // namespace imageddpo
