#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Whether a job with the settings `branch` can go on from a checkpoint of a job with the settings
/// `parent`. What a checkpoint holds, and so cannot change: the LoRA, the model that it belongs to,
/// the form of the optimizer's moments, the LoRA's older versions (sample.max_staleness), the
/// statistics of `advantage.mode: per_key`, the spread of normalised rewards. Both with every
/// default filled in.
/// @param epoch  epochs trained in the checkpoint.
/// @return INVALID_ARGUMENT with all settings that cannot change, one per line, each with its two
///         values, the reason and what to do.
absl::Status CheckBranch(const v1::JobSpec& parent, const v1::JobSpec& branch, int64_t epoch);

}  // namespace imageddpo
