#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "absl/status/statusor.h"
#include "imageddpo/v1/job.pb.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// The reward that `config` describes, ready to score on `device`. INVALID_ARGUMENT names the
/// setting, NOT_FOUND the missing model file.
absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device);

/// The weighted sum of a job's `rewards`. The job has its defaults (FillDefaults()) and is valid
/// (ValidateJob()). Errors as MakeReward().
absl::StatusOr<std::unique_ptr<Reward>> MakeJobReward(const v1::JobSpec& job, at::Device device);

}  // namespace imageddpo
