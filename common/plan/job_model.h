#pragma once

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/model_config/model_count.h"

namespace imageddpo {

/// Counts the model of a job with the LoRA that it trains: that of `lora.init_from` where there is
/// one, else a new one of `lora`. Reads configurations and the LoRA's header, no weights.
/// @return NOT_FOUND or INVALID_ARGUMENT naming the file, the field or the setting.
absl::StatusOr<ModelCount> CountJobModel(const ResolvedJob& job);

}  // namespace imageddpo
