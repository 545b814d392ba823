#include "rollout/reward/job_rewards.h"

#include <utility>

#include "common/base/text.h"

namespace imageddpo {

std::vector<RewardConfig> MakeRewardConfigs(const v1::JobSpec& job) {
  std::vector<RewardConfig> configs;
  for (const auto& reward : job.rewards()) {
    RewardConfig config{.type = reward.type(),
                        .model = PathOf(reward.model()),
                        .measure = reward.measure(),
                        .weight = reward.weight(),
                        .clamp = reward.clamp(),
                        .jpeg_quality = static_cast<int>(reward.jpeg_quality())};
    configs.push_back(std::move(config));
  }
  return configs;
}

}  // namespace imageddpo
