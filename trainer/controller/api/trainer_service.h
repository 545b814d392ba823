#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.grpc.pb.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Status codes of absl and gRPC have the same numbers.
grpc::Status ToGrpcStatus(const absl::Status& status);

/// The gRPC service: passes each call to JobApi and returns its answer. WatchJob is served by
/// callbacks, so that idle watchers take no threads. Thread-safe.
class TrainerServiceImpl final
    : public v1::TrainerService::WithCallbackMethod_WatchJob<v1::TrainerService::Service> {
 public:
  struct Dependencies {
    JobApi& jobs;
    JobStore& store;
    EventHub& hub;
    ServiceMetrics& metrics;
    const Clock& clock;
  };
  /// Dependencies must outlive the server that serves this.
  explicit TrainerServiceImpl(const Dependencies& dependencies);

  grpc::Status SubmitJob(grpc::ServerContext* context, const v1::SubmitJobRequest* request,
                         v1::Job* response) override;
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* response) override;
  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override;
  grpc::Status CancelJob(grpc::ServerContext* context, const v1::CancelJobRequest* request,
                         v1::Job* response) override;
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override;

 private:
  const Dependencies dependencies_;
};

}  // namespace imageddpo
