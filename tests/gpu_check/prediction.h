#pragma once

#include "absl/status/statusor.h"
#include "common/model_config/model_count.h"
#include "tests/gpu_check/speed.h"

namespace imageddpo {

/// The bytes of memory that `imageddpo plan` predicts for a job with these settings in one rank,
/// without the text encoder, which the measurement does not load.
/// @return INVALID_ARGUMENT where a job cannot have these settings.
absl::StatusOr<double> PredictedBytes(const SpeedOptions& options, const ModelCount& count,
                                      int64_t lora_rank);

}  // namespace imageddpo
