#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/api/access_control.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/files/retention.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

struct TrainerServiceDependencies {
  const AccessControl& access;
  JobApi& jobs;
  JobStore& store;
  EventHub& hub;
  ServiceMetrics& metrics;
  const Clock& clock;
  RetentionRules retention = {};  ///< Of cluster.yaml; what PlanRetention looks at.
  std::string version = "";       ///< Of the service.
};

/// The gRPC service v1.TrainerService: asks AccessControl, passes each call to JobApi and returns
/// its answer. Streams are served by callbacks, so that idle ones take no threads. Thread-safe.
/// @param dependencies  must outlive the server that serves this.
std::unique_ptr<grpc::Service> MakeTrainerService(const TrainerServiceDependencies& dependencies);

}  // namespace imageddpo
