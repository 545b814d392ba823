#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"

namespace imageddpo {

/// Status codes of absl and gRPC have the same numbers. The message is cut to what clients accept.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace imageddpo
