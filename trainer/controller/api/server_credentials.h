#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// What the API's server proves itself with: TLS with the endpoint's certificate or, without its
/// files, nothing. With a ca_file, clients need a certificate of that authority. The files are read
/// again every few seconds; connections from then on have the new certificate.
/// @return FAILED_PRECONDITION naming the setting and the file that is missing or wrong.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(
    const Endpoint& endpoint);

}  // namespace imageddpo
