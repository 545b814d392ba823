#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "rollout/reward/reward.h"
#include "rollout/reward/reward_host.h"

namespace imageddpo {

/// The reward that `config` describes, ready to score on `device`. INVALID_ARGUMENT names the
/// setting, NOT_FOUND the missing model file.
/// @param host  of the rank; the reward keeps a copy.
absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device,
                                                   const RewardHost& host = {});

/// The weighted sum of a job's `rewards`, with the value and the parts of each. Errors as
/// MakeReward().
absl::StatusOr<std::unique_ptr<Reward>> MakeJobReward(const ResolvedJob& job, at::Device device,
                                                      const RewardHost& host = {});

}  // namespace imageddpo
