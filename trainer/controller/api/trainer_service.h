#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/base/endpoint.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Status codes of absl and gRPC have the same numbers.
grpc::Status ToGrpcStatus(const absl::Status& status);

struct TrainerServiceDependencies {
  JobApi& jobs;
  JobStore& store;
  EventHub& hub;
  ServiceMetrics& metrics;
  const Clock& clock;
};

/// The gRPC service v1.TrainerService: passes each call to JobApi and returns its answer. WatchJob
/// is served by callbacks, so that idle watchers take no threads. Thread-safe.
/// @param dependencies  must outlive the server that serves this.
/// @param token_check   is asked before each call, with the token in the call's metadata
///                      `authorization`; null: everyone may call.
std::unique_ptr<grpc::Service> MakeTrainerService(const TrainerServiceDependencies& dependencies,
                                                  std::shared_ptr<const TokenCheck> token_check);

}  // namespace imageddpo
