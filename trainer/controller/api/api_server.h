#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace imageddpo {

/// A gRPC server with one service, health checking (grpc.health.v1) and reflection. Thread-safe.
class ApiServer {
 public:
  struct Options {
    std::string address = "127.0.0.1";
    int port = 50051;          ///< 0: a free port.
    std::string service_name;  ///< Full name, for the health service.
  };

  /// Starts to serve. @param service  must outlive the server.
  /// @return PERMISSION_DENIED: not a loopback address; UNAVAILABLE: the port is in use or may not
  ///         be bound, naming `grpc.port` and the remedy.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const Options& options,
                                                          grpc::Service& service);

  ~ApiServer();  ///< Calls Shutdown() with a few seconds of grace.

  /// "127.0.0.1:50051", with the port as bound.
  const std::string& address() const { return address_; }

  /// Sets what the health service answers; SERVING after Start().
  void SetServing(bool serving);
  /// Accepts no new calls; calls under way are cancelled after `grace`.
  void Shutdown(absl::Duration grace);

 private:
  ApiServer(std::unique_ptr<grpc::Server> server, std::string service_name, std::string address);

  std::unique_ptr<grpc::Server> server_;
  const std::string service_name_;
  const std::string address_;
};

}  // namespace imageddpo
