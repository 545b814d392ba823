#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// The reward that `config` describes, ready to score on `device`. INVALID_ARGUMENT names the
/// setting, NOT_FOUND the missing model file.
absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device);

/// The weighted sum of a job's `rewards`, with the value and the parts of each. Errors as
/// MakeReward().
absl::StatusOr<std::unique_ptr<Reward>> MakeJobReward(const ResolvedJob& job, at::Device device);

}  // namespace imageddpo
