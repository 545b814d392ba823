#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"

namespace imageddpo {

/// Status codes of absl and gRPC have the same numbers. The details are a google.rpc.Status with
/// ErrorInfo and, for what a request has wrong, BadRequest: those of RejectionOf(). Message and
/// details are cut to what clients accept.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace imageddpo
