#include "trainer/controller/api/api_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/config/cluster_config.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kGraceAtDestruction = absl::Seconds(2);

std::string WithPort(const std::string& address, int port) {
  const bool bare_ipv6 = absl::StrContains(address, ':') && !absl::StartsWith(address, "[");
  return bare_ipv6 ? absl::StrCat("[", address, "]:", port) : absl::StrCat(address, ":", port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const Options& options,
                                                            grpc::Service& service) {
  if (!IsLoopback(options.address)) {
    return absl::PermissionDeniedError(
        absl::StrCat("`grpc.address` is ", options.address,
                     ": other hosts could control the service, and TLS and tokens are not "
                     "configured; use 127.0.0.1 and reach it through an SSH tunnel"));
  }
  // Both are switches of the gRPC library, read when a server is built; setting them again is
  // harmless.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  int bound_port = 0;
  builder.AddListeningPort(WithPort(options.address, options.port),
                           grpc::InsecureServerCredentials(), &bound_port);
  // gRPC shares ports by default: two services would take each other's calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound_port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", WithPort(options.address, options.port),
                     ": the port is in use or may not be bound; choose another `grpc.port` in "
                     "cluster.yaml (0: a free one)"));
  }
  std::unique_ptr<ApiServer> api(new ApiServer(std::move(server), options.service_name,
                                               WithPort(options.address, bound_port)));
  api->SetServing(true);
  return api;
}

ApiServer::ApiServer(std::unique_ptr<grpc::Server> server, std::string service_name,
                     std::string address)
    : server_(std::move(server)),
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
