#pragma once

#include <google/protobuf/map.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// @return INVALID_ARGUMENT: not from -1000 to 1000.
absl::Status CheckPriority(int32_t priority);

/// @return INVALID_ARGUMENT: negative, not finite, or above a thousand days. 0: no limit.
absl::Status CheckMaxSeconds(double max_seconds);

/// Sets labels of a job; an empty value removes one. Limits: UpdateJobRequest.labels in
/// service.proto. @return INVALID_ARGUMENT naming the label that is too long, or that there are too
/// many; some may be set then.
absl::Status SetLabels(const google::protobuf::Map<std::string, std::string>& labels, v1::Job* job);

}  // namespace imageddpo
