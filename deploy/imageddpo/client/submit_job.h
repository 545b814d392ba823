#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "deploy/imageddpo/client/client.h"

namespace imageddpo {

/// Submits a job, and shows its warnings on standard error.
/// @param request_id  empty: a random one.
/// @return the job; where it is not known whether the service has taken it, the error says how to
///         submit it once and only once.
absl::StatusOr<v1::Job> SubmitOnce(Client& client, const v1::JobSpec& job,
                                   const std::string& request_id = "");

}  // namespace imageddpo
