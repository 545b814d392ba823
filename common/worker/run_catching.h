#pragma once

#include <functional>

#include "absl/status/status.h"

namespace imageddpo {

/// Runs `job` and converts exceptions into statuses: CommError as in communicator.h, out of memory
/// (host or device) RESOURCE_EXHAUSTED, std::invalid_argument INVALID_ARGUMENT, any other exception
/// INTERNAL. The stack traces in libtorch's messages are removed.
absl::Status RunCatching(const std::function<absl::Status()>& job);

}  // namespace imageddpo
