#include "trainer/controller/api/api_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kGraceAtDestruction = absl::Seconds(2);

/// What a server proves itself with. TLS comes in here, from the endpoint.
std::shared_ptr<grpc::ServerCredentials> ServerCredentialsOf(const Endpoint& /*endpoint*/) {
  return grpc::InsecureServerCredentials();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const Endpoint& endpoint,
                                                            const std::string& service_name,
                                                            grpc::Service& service) {
  Address address = endpoint.address;
  if (!address.IsLocal()) {
    return absl::PermissionDeniedError(
        absl::StrCat("`grpc.address` is ", address.host,
                     ": other hosts could control the service, and TLS and tokens are not "
                     "configured; use 127.0.0.1 and reach it through an SSH tunnel"));
  }
  std::unique_ptr<SocketFile> socket_file;
  Address bound = address;
  if (address.is_unix()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(socket_file, SocketFile::Make(address.unix_path));
    bound.unix_path = socket_file->bind_path();
  }
  // Both are switches of the gRPC library, read when a server is built; setting them again is
  // harmless.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  int bound_port = 0;  // 1 for a Unix socket.
  builder.AddListeningPort(bound.ToString(), ServerCredentialsOf(endpoint), &bound_port);
  // gRPC shares ports by default: two services would take each other's calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound_port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", address.ToString(),
        address.is_unix()
            ? ": may its folder be written to? Choose another `grpc.address` in cluster.yaml"
            : ": the port is in use or may not be bound; choose another `grpc.port` in "
              "cluster.yaml (0: a free one)"));
  }
  if (socket_file != nullptr) {
    IMAGEDDPO_RETURN_IF_ERROR(socket_file->Publish());
  } else {
    address.port = bound_port;
  }
  std::unique_ptr<ApiServer> api(
      new ApiServer(std::move(server), service_name, std::move(address), std::move(socket_file)));
  api->SetServing(true);
  return api;
}

ApiServer::ApiServer(std::unique_ptr<grpc::Server> server, std::string service_name,
                     Address address, std::unique_ptr<SocketFile> socket_file)
    : socket_file_(std::move(socket_file)),
      server_(std::move(server)),
      service_name_(std::move(service_name)),
      address_(std::move(address)) {}

ApiServer::~ApiServer() { Shutdown(kGraceAtDestruction); }

void ApiServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus(serving);  // Of the server as a whole.
  health->SetServingStatus(service_name_, serving);
}

void ApiServer::Shutdown(absl::Duration grace) {
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  server_->Wait();
}

}  // namespace imageddpo
