#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// The operations on jobs that the gRPC side calls; see service.proto. It is all that the gRPC side
/// knows of the controller. Thread-safe.
class JobApi {
 public:
  virtual ~JobApi() = default;

  /// DEADLINE_EXCEEDED: no answer within `timeout`.
  virtual absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request,
                                         absl::Duration timeout) = 0;
  virtual absl::StatusOr<v1::Job> Cancel(const std::string& id, absl::Duration timeout) = 0;
  virtual absl::StatusOr<v1::Job> Get(const std::string& id) const = 0;
  virtual absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request) const = 0;
};

}  // namespace imageddpo
