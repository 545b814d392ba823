#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/endpoint.h"
#include "trainer/controller/api/peer_listener.h"
#include "trainer/controller/api/socket_file.h"

namespace imageddpo {

/// What one client may take of the server.
struct ApiLimits {
  int max_message_bytes = 4 << 20;  ///< Of a request.
  int max_streams = 128;            ///< Calls under way on one connection; others wait.
};

/// A gRPC server with one service, health checking (grpc.health.v1) and reflection. Clients may
/// ping every 5 s, on quiet connections too; one that does not answer the server's own pings for 40
/// s is cut off. Thread-safe.
class ApiServer {
 public:
  /// Starts to serve: on a Unix socket (see SocketFile, PeerListener), with TLS, or unencrypted on
  /// an address of this host.
  /// @param peers         gets the users that connect to the Unix socket; must outlive the server.
  /// @param service_name  full name, for the health service.
  /// @param service       must outlive the server. It checks callers itself (AccessControl), since
  ///                      without TLS gRPC's server refuses no call before the call's handler.
  /// @return PERMISSION_DENIED: other hosts could call without TLS or without a token;
  ///         FAILED_PRECONDITION: a file of TLS is missing or wrong; UNAVAILABLE: the port or the
  ///         socket is in use or may not be bound, naming setting and remedy.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const Endpoint& endpoint,
                                                          const ApiLimits& limits, PeerUsers& peers,
                                                          const std::string& service_name,
                                                          grpc::Service& service);

  ~ApiServer();  ///< Calls Shutdown() with a few seconds of grace.

  /// With the port as bound.
  const Address& address() const { return address_; }

  /// Sets what the health service answers; SERVING after Start().
  void SetServing(bool serving);
  /// Accepts no new calls; calls under way are cancelled after `grace`. For one thread alone.
  void Shutdown(absl::Duration grace);

 private:
  ApiServer(std::unique_ptr<grpc::Server> server, std::string service_name, Address address,
            std::unique_ptr<SocketFile> socket_file);
  absl::Status ListenOnSocket(const Endpoint& endpoint, PeerUsers& peers);

  const std::unique_ptr<SocketFile> socket_file_;  // Null: TCP.
  const std::unique_ptr<grpc::Server> server_;
  const std::string service_name_;
  const Address address_;
  std::unique_ptr<PeerListener> listener_;  // Null: TCP, or shut down. Uses the server.
};

}  // namespace imageddpo
