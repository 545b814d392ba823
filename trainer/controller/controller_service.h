#pragma once

#include <prometheus/registry.h>
#include <spdlog/logger.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/comm/control_channel.h"
#include "common/config/cluster_config.h"
#include "common/io/file_system.h"
#include "common/metrics/http_exporter.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/api/access_control.h"
#include "trainer/controller/api/api_server.h"
#include "trainer/controller/api/audit_log.h"
#include "trainer/controller/controller.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"
#include "trainer/controller/storekeeper.h"

namespace imageddpo {

/// The whole service of rank 0: job store, controller, API and metrics, connected with each other.
/// Used by `imageddpod`, and by tests within their own process.
class ControllerService {
 public:
  struct Dependencies {
    ControllerChannel& channel;
    FileSystem& file_system;
    const Clock& clock;
    std::shared_ptr<spdlog::logger> logger;
    ServiceMetrics::Build build;
    RewardProbe::Ask ask_rewards = nullptr;  ///< See Controller::Dependencies.
  };

  /// Opens the data directory, serves the API, metrics and the web page, and writes
  /// <data_dir>/service.json atomically (see common/config/service_file.h). Jobs do not start
  /// before Run().
  /// @param cluster  resolved. Dependencies must outlive the service.
  /// @return an error naming the setting and the remedy: port in use, data directory in use, …
  static absl::StatusOr<std::unique_ptr<ControllerService>> Start(const ClusterConfig& cluster,
                                                                  const Dependencies& dependencies);
  /// Ends all calls and removes service.json.
  ~ControllerService();

  /// See Controller::Run. Blocks.
  absl::StatusOr<Controller::ExitReason> Run(const std::function<bool()>& stop_requested);

  std::string grpc_address() const { return api_->address().ToString(); }
  std::string http_address() const { return http_->address().ToString(); }
  bool http_has_tls() const { return http_->has_tls(); }

 private:
  ControllerService(const ClusterConfig& cluster, const Dependencies& dependencies,
                    std::unique_ptr<JobStore> store);
  absl::Status Listen();
  std::vector<HttpRoute> HttpRoutes();

  const ClusterConfig cluster_;
  const Dependencies dependencies_;
  const std::shared_ptr<prometheus::Registry> registry_;
  const std::unique_ptr<JobStore> store_;
  ServiceMetrics metrics_;
  JobMetricsTable job_metrics_;
  EventHub hub_;
  Controller controller_;
  AuditLog audit_;
  PeerUsers peers_;
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<ApiServer> api_;
  std::unique_ptr<Storekeeper> keeper_;
};

}  // namespace imageddpo
