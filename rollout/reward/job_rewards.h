#pragma once

#include <vector>

#include "imageddpo/v1/job.pb.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// A job's `rewards`, defaults filled in.
std::vector<RewardConfig> MakeRewardConfigs(const v1::JobSpec& job);

}  // namespace imageddpo
