#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "deploy/imageddpo/client/client.h"

namespace imageddpo {

/// Submits a job, and shows its warnings on standard error. A request_id that is empty becomes a
/// random one.
/// @return the job; where it is not known whether the service has taken it, the error says how to
///         submit it once and only once.
absl::StatusOr<v1::Job> SubmitOnce(Client& client, v1::SubmitJobRequest request);
/// The same with a job's settings alone.
absl::StatusOr<v1::Job> SubmitOnce(Client& client, const v1::JobSpec& job,
                                   const std::string& request_id = "");
/// The same for a branch of a job.
absl::StatusOr<v1::Job> BranchOnce(Client& client, v1::BranchJobRequest request);

}  // namespace imageddpo
