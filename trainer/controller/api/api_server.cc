#include "trainer/controller/api/api_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/api/server_credentials.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kGraceAtDestruction = absl::Seconds(2);

// Pings: a client's may come this often; ours come after so long without news and are to be
// answered in time, so that half-open connections do not keep their watches.
constexpr int kMinPingIntervalMs = 5'000;
constexpr int kPingAfterMs = 20'000;
constexpr int kPingTimeoutMs = 20'000;

absl::Status CheckAddress(const Endpoint& endpoint) {
  if (endpoint.address.IsLocal()) return absl::OkStatus();
  const char* missing = endpoint.tls.empty()              ? "TLS"
                        : endpoint.token_check == nullptr ? "tokens"
                                                          : nullptr;
  if (missing == nullptr) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("`grpc.address` is ", endpoint.address.host,
                   ": other hosts could control the service without ", missing,
                   "; leave `grpc.insecure` out of cluster.yaml, see docs/security.md"));
}

void SetArguments(const ApiLimits& limits, grpc::ServerBuilder* builder) {
  // gRPC shares ports by default: two services would take each other's calls.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->SetMaxReceiveMessageSize(limits.max_message_bytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_streams);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingAfterMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kMinPingIntervalMs);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const Endpoint& endpoint,
                                                            const ApiLimits& limits,
                                                            PeerUsers& peers,
                                                            const std::string& service_name,
                                                            grpc::Service& service) {
  Address address = endpoint.address;
  IMAGEDDPO_RETURN_IF_ERROR(CheckAddress(endpoint));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                             ServerCredentialsOf(endpoint));
  std::unique_ptr<SocketFile> socket_file;
  if (address.is_unix()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(socket_file, SocketFile::Make(address.unix_path));
  }
  // Both are switches of the gRPC library, read when a server is built; setting them again is
  // harmless.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  int bound_port = 0;
  if (!address.is_unix()) builder.AddListeningPort(address.ToString(), credentials, &bound_port);
  SetArguments(limits, &builder);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!address.is_unix()) {
    if (server == nullptr || bound_port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", address.ToString(),
                       ": the port is in use or may not be bound; choose another `grpc.port` in "
                       "cluster.yaml (0: a free one)"));
    }
    address.port = bound_port;
  }
  if (server == nullptr) return absl::InternalError("gRPC's server does not start");
  std::unique_ptr<ApiServer> api(
      new ApiServer(std::move(server), service_name, std::move(address), std::move(socket_file)));
  if (api->socket_file_ != nullptr) {
    IMAGEDDPO_RETURN_IF_ERROR(api->ListenOnSocket(endpoint, peers));
  }
  api->SetServing(true);
  return api;
}

absl::Status ApiServer::ListenOnSocket(const Endpoint& endpoint, PeerUsers& peers) {
  auto listener =
      PeerListener::Start({socket_file_->bind_path(), !endpoint.socket_group.empty()}, peers,
                          [this](int fd) { grpc::AddInsecureChannelFromFd(server_.get(), fd); });
  if (!listener.ok()) {
    return absl::UnavailableError(
        absl::StrCat(listener.status().message(),
                     ": may its folder be written to? Choose another `grpc.address` in "
                     "cluster.yaml"));
  }
  listener_ = *std::move(listener);
  return socket_file_->Publish(endpoint.socket_group);
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
  listener_.reset();
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  server_->Wait();
}

}  // namespace imageddpo
