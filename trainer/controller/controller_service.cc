#include "trainer/controller/controller_service.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/access/live_tokens.h"
#include "common/base/endpoint.h"
#include "common/base/status.h"
#include "common/config/service_file.h"
#include "common/io/file.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "trainer/controller/api/socket_file.h"
#include "trainer/controller/api/trainer_service.h"
#include "trainer/controller/web/change_routes.h"
#include "trainer/controller/web/json_routes.h"
#include "trainer/controller/web/page_routes.h"

namespace imageddpo {
namespace {

constexpr char kServiceFile[] = "service.json";
constexpr char kAuditFile[] = "audit.jsonl";
constexpr double kSecondsPerDay = 86'400;
constexpr absl::Duration kRetireTimeout = absl::Seconds(30);

TlsFiles CertificatesOf(const ClusterConfig& cluster) {
  return {.ca_file = cluster.access.tls_client_ca_file,
          .certificate_file = cluster.access.tls_certificate_file,
          .key_file = cluster.access.tls_key_file};
}

/// A Unix socket knows its callers' users; TCP needs TLS and tokens, unless cluster.yaml says
/// otherwise.
Endpoint ApiEndpoint(const ClusterConfig& cluster, std::shared_ptr<const TokenCheck> tokens) {
  Endpoint endpoint{Address::Of(cluster.grpc.address, static_cast<int>(cluster.grpc.port))};
  endpoint.socket_group = cluster.grpc.group;
  if (endpoint.address.is_unix() || cluster.grpc.insecure) return endpoint;
  endpoint.token_check = std::move(tokens);
  endpoint.tls = CertificatesOf(cluster);
  return endpoint;
}

Endpoint HttpEndpoint(const ClusterConfig& cluster, std::shared_ptr<const TokenCheck> tokens) {
  Endpoint endpoint{Address::Of(cluster.http.address, static_cast<int>(cluster.http.port))};
  if (!cluster.http.insecure) endpoint.token_check = std::move(tokens);
  if (cluster.http.tls) endpoint.tls = CertificatesOf(cluster);
  return endpoint;
}

RetentionRules RulesOf(const ClusterConfig& cluster) {
  const auto& retention = cluster.retention;
  return {.events_s = kSecondsPerDay * retention.events_days,
          .pictures_s = kSecondsPerDay * retention.pictures_days,
          .checkpoints_s = kSecondsPerDay * retention.checkpoints_days,
          .max_bytes = retention.max_bytes,
          .min_free_bytes = retention.min_free_bytes};
}

/// What a client of this host calls where the service listens on all addresses.
std::string ReachableAddress(Address address) {
  if (address.host == "0.0.0.0" || address.host == "::") address.host = "localhost";
  return address.ToString();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControllerService>> ControllerService::Start(
    const ClusterConfig& cluster, const Dependencies& dependencies) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<JobStore> store, JobStore::Open(cluster.data_dir));
  if (!cluster.grpc.group.empty()) {
    IMAGEDDPO_RETURN_IF_ERROR(ShareFolder(cluster.data_dir, cluster.grpc.group));
  }
  std::unique_ptr<ControllerService> service(
      new ControllerService(cluster, dependencies, std::move(store)));
  IMAGEDDPO_RETURN_IF_ERROR(service->Listen());
  return service;
}

ControllerService::ControllerService(const ClusterConfig& cluster, const Dependencies& dependencies,
                                     std::unique_ptr<JobStore> store)
    : cluster_(cluster),
      dependencies_(dependencies),
      registry_(std::make_shared<prometheus::Registry>()),
      store_(std::move(store)),
      metrics_(*registry_, dependencies.build, std::chrono::system_clock::now()),
      job_metrics_(*registry_),
      controller_(cluster, {dependencies.channel, *store_, hub_, dependencies.file_system,
                            dependencies.clock, metrics_, job_metrics_, dependencies.logger,
                            dependencies.ask_rewards}),
      audit_(absl::StrCat(cluster.data_dir, "/", kAuditFile), dependencies.clock) {}

std::vector<HttpRoute> ControllerService::HttpRoutes() {
  std::vector<HttpRoute> routes = PageRoutes();
  for (HttpRoute& route : JsonRoutes({controller_, *store_})) {
    routes.push_back(std::move(route));
  }
  for (HttpRoute& route : ChangeRoutes(controller_, *access_)) routes.push_back(std::move(route));
  routes.push_back(MetricsRoute(registry_));
  routes.push_back(HealthRoute([this] { return controller_.GetHealth(); }));
  return routes;
}

absl::Status ControllerService::Listen() {
  const auto tokens = std::make_shared<LiveTokens>(cluster_.access.token_file);
  const Endpoint grpc = ApiEndpoint(cluster_, tokens);
  access_ = std::make_unique<AccessControl>(grpc, peers_, &audit_);
  IMAGEDDPO_ASSIGN_OR_RETURN(http_,
                             HttpServer::Start(HttpEndpoint(cluster_, tokens), HttpRoutes()));
  service_ =
      MakeTrainerService({*access_, controller_, *store_, hub_, metrics_, dependencies_.clock,
                          RulesOf(cluster_), dependencies_.build.version});
  const ApiLimits limits{.max_message_bytes = static_cast<int>(cluster_.grpc.max_message_bytes),
                         .max_streams = static_cast<int>(cluster_.grpc.max_streams)};
  IMAGEDDPO_ASSIGN_OR_RETURN(
      api_,
      ApiServer::Start(grpc, limits, peers_, v1::TrainerService::service_full_name(), *service_));
  const ServiceFile file{ReachableAddress(api_->address()), http_address(), ::getpid(),
                         dependencies_.build.version, !grpc.tls.empty()};
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(dependencies_.file_system,
                                                absl::StrCat(cluster_.data_dir, "/", kServiceFile),
                                                ServiceFileToJson(file)));
  keeper_ = std::make_unique<Storekeeper>(
      RulesOf(cluster_),
      Storekeeper::Dependencies{
          *store_, dependencies_.clock, metrics_, dependencies_.logger,
          [this](const std::string& job_id, const std::vector<std::string>& names) {
            return controller_
                .Do([job_id, names](JobService& jobs) { return jobs.Retire(job_id, names); },
                    kRetireTimeout)
                .status();
          },
          cluster_.access.tls_certificate_file});
  return absl::OkStatus();
}

absl::StatusOr<Controller::ExitReason> ControllerService::Run(
    const std::function<bool()>& stop_requested) {
  absl::StatusOr<Controller::ExitReason> reason = controller_.Run(stop_requested);
  api_->SetServing(false);
  return reason;
}

ControllerService::~ControllerService() {
  if (api_ != nullptr) {
    dependencies_.file_system.Remove(absl::StrCat(cluster_.data_dir, "/", kServiceFile))
        .IgnoreError();
  }
  keeper_.reset();
  hub_.Close();
  api_.reset();
  http_.reset();
}

}  // namespace imageddpo
