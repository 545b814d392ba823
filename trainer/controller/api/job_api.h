#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/endpoint.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/jobs/job_service.h"

namespace imageddpo {

/// The operations on jobs that the gRPC side calls; see service.proto. It is all that the gRPC side
/// knows of the controller. Thread-safe.
class JobApi {
 public:
  virtual ~JobApi() = default;

  /// Checks the files that the job names, on the caller's thread, then does JobService::Submit().
  /// @param caller  its owner becomes the job's; empty: nobody's. DEADLINE_EXCEEDED: no answer
  /// within `timeout`.
  virtual absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request, const Caller& caller,
                                         absl::Duration timeout) = 0;

  /// Applies the request's changes to the settings of the job that it names, checks the result as
  /// Submit() does, then does JobService::Branch().
  virtual absl::StatusOr<v1::Job> Branch(const v1::BranchJobRequest& request, const Caller& caller,
                                         absl::Duration timeout) = 0;

  /// A method of JobService with its arguments. It may run after Do() has given up, so it must own
  /// what it uses.
  using Verb = std::function<absl::StatusOr<v1::Job>(JobService& jobs)>;
  /// Runs the verb on the controller's thread and returns what it returns. DEADLINE_EXCEEDED: no
  /// answer within `timeout`.
  virtual absl::StatusOr<v1::Job> Do(Verb verb, absl::Duration timeout) = 0;

  /// Supervisor::Cluster() and Drain(), on the controller's thread.
  virtual absl::StatusOr<v1::Cluster> GetCluster(absl::Duration timeout) = 0;
  virtual absl::StatusOr<v1::Cluster> Drain(const v1::DrainWorkerRequest& request,
                                            absl::Duration timeout) = 0;

  virtual absl::StatusOr<v1::Job> Get(const std::string& id) const = 0;
  virtual absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request) const = 0;
};

}  // namespace imageddpo
