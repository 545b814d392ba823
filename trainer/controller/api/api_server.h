#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/endpoint.h"
#include "trainer/controller/api/socket_file.h"

namespace imageddpo {

/// A gRPC server with one service, health checking (grpc.health.v1) and reflection. Thread-safe.
class ApiServer {
 public:
  /// Starts to serve. A Unix socket is for this user alone; see SocketFile.
  /// @param endpoint      Its token_check is the service's part: without TLS gRPC's server cannot
  ///                      refuse a call before the call's handler.
  /// @param service_name  full name, for the health service.
  /// @param service       must outlive the server.
  /// @return PERMISSION_DENIED: not a local address; UNAVAILABLE: the port or the socket is in use
  ///         or may not be bound, naming setting and remedy.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const Endpoint& endpoint,
                                                          const std::string& service_name,
                                                          grpc::Service& service);

  ~ApiServer();  ///< Calls Shutdown() with a few seconds of grace.

  /// With the port as bound.
  const Address& address() const { return address_; }

  /// Sets what the health service answers; SERVING after Start().
  void SetServing(bool serving);
  /// Accepts no new calls; calls under way are cancelled after `grace`.
  void Shutdown(absl::Duration grace);

 private:
  ApiServer(std::unique_ptr<grpc::Server> server, std::string service_name, Address address,
            std::unique_ptr<SocketFile> socket_file);

  const std::unique_ptr<SocketFile> socket_file_;  // Null: TCP.
  const std::unique_ptr<grpc::Server> server_;
  const std::string service_name_;
  const Address address_;
};

}  // namespace imageddpo
