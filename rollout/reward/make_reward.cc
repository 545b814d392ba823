#include "rollout/reward/make_reward.h"

#include "common/base/status.h"
#include "rollout/reward/classifier_reward.h"
#include "rollout/reward/jpeg_reward.h"

namespace imageddpo {

absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device) {
  IMAGEDDPO_RETURN_IF_ERROR(config.Validate());
  if (config.type == "classifier") return ClassifierReward::Make(config, device);
  return std::unique_ptr<Reward>(std::make_unique<JpegReward>(config));
}

}  // namespace imageddpo
