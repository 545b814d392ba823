#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace imageddpo {

/// The same error with what its details say as its RejectionOf(); unchanged where there are none,
/// or none that this version reads.
/// @param from  what gRPC returned. @param status  what the caller is told.
absl::Status WithDetailsOf(const grpc::Status& from, absl::Status status);

}  // namespace imageddpo
