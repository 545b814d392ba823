#include "trainer/controller/controller_service.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/endpoint.h"
#include "common/base/status.h"
#include "common/config/service_file.h"
#include "common/io/file.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "trainer/controller/api/trainer_service.h"

namespace imageddpo {
namespace {

constexpr char kServiceFile[] = "service.json";

}  // namespace

absl::StatusOr<std::unique_ptr<ControllerService>> ControllerService::Start(
    const ClusterConfig& cluster, const Dependencies& dependencies) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<JobStore> store, JobStore::Open(cluster.data_dir));
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
                            dependencies.ask_rewards}) {}

absl::Status ControllerService::Listen() {
  const Endpoint http{Address::Of(cluster_.http.address, static_cast<int>(cluster_.http.port))};
  IMAGEDDPO_ASSIGN_OR_RETURN(
      http_, HttpExporter::Start(http, registry_, [this] { return controller_.GetHealth(); }));
  const Endpoint grpc{Address::Of(cluster_.grpc.address, static_cast<int>(cluster_.grpc.port))};
  service_ = MakeTrainerService({controller_, *store_, hub_, metrics_, dependencies_.clock},
                                grpc.token_check);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      api_, ApiServer::Start(grpc, v1::TrainerService::service_full_name(), *service_));
  const ServiceFile file{grpc_address(), http_address(), ::getpid(), dependencies_.build.version};
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(dependencies_.file_system,
                                                absl::StrCat(cluster_.data_dir, "/", kServiceFile),
                                                ServiceFileToJson(file)));
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
  hub_.Close();
  api_.reset();
  http_.reset();
}

}  // namespace imageddpo
