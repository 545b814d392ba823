#include "rollout/reward/make_reward.h"

#include <utility>
#include <vector>

#include "common/base/status.h"
#include "rollout/reward/classifier_reward.h"
#include "rollout/reward/image_rewards.h"
#include "rollout/reward/jpeg_reward.h"
#include "rollout/reward/kl_to_base_reward.h"
#include "rollout/reward/service_reward.h"
#include "rollout/reward/torchscript_reward.h"
#include "rollout/reward/weighted_rewards.h"

namespace imageddpo {

absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device,
                                                   const RewardHost& host) {
  switch (config.type) {
    case RewardType::kClassifier:
      return ClassifierReward::Make(config, device, host);
    case RewardType::kTorchScript:
      return TorchScriptReward::Make(config, device, host);
    case RewardType::kJpeg:
      return std::make_unique<JpegReward>(config);
    case RewardType::kL1:
    case RewardType::kL2:
    case RewardType::kPsnr:
    case RewardType::kSsim:
      return std::make_unique<DistanceReward>(config);
    case RewardType::kImageStat:
      return std::make_unique<ImageStatReward>(config);
    case RewardType::kKlToBase:
      return std::make_unique<KlToBaseReward>();
    case RewardType::kService:
      return ServiceReward::Make(config, host);
  }
  return absl::InternalError("a reward type without a class");
}

absl::StatusOr<std::unique_ptr<Reward>> MakeJobReward(const ResolvedJob& job, at::Device device,
                                                      const RewardHost& host) {
  std::vector<WeightedRewards::Term> terms;
  for (const RewardConfig& config : job.rewards()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<Reward> reward, MakeReward(config, device, host));
    terms.push_back({std::move(reward), config});
  }
  return std::make_unique<WeightedRewards>(std::move(terms));
}

}  // namespace imageddpo
