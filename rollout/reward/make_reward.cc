#include "rollout/reward/make_reward.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "rollout/reward/classifier_reward.h"
#include "rollout/reward/jpeg_reward.h"
#include "rollout/reward/weighted_rewards.h"

namespace imageddpo {
namespace {

absl::StatusOr<RewardConfig> ToConfig(const v1::RewardSpec& spec) {
  const RewardTypeInfo* const type = FindRewardType(spec.type());
  if (type == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("rewards.type: '", spec.type(), "' is unknown"));
  }
  const RewardMeasureInfo* const measure = FindRewardMeasure(*type, spec.measure());
  if (measure == nullptr && !type->measures.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rewards.measure: '", spec.measure(), "' is unknown to '", type->name, "'"));
  }
  return RewardConfig{.type = type->type,
                      .measure = measure != nullptr ? measure->measure : RewardMeasure::kNone,
                      .model = PathOf(spec.model()),
                      .weight = spec.weight(),
                      .clamp = spec.clamp(),
                      .jpeg_quality = static_cast<int>(spec.jpeg_quality())};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> MakeReward(const RewardConfig& config, at::Device device) {
  switch (config.type) {
    case RewardType::kClassifier:
      return ClassifierReward::Make(config, device);
    case RewardType::kJpeg:
      return std::make_unique<JpegReward>(config);
  }
  return absl::InternalError("a reward type without a class");
}

absl::StatusOr<std::unique_ptr<Reward>> MakeJobReward(const v1::JobSpec& job, at::Device device) {
  if (job.rewards().empty()) {
    return absl::InvalidArgumentError("rewards is empty; a job needs at least one reward");
  }
  std::vector<WeightedRewards::Term> terms;
  for (const v1::RewardSpec& spec : job.rewards()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const RewardConfig config, ToConfig(spec));
    IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<Reward> reward, MakeReward(config, device));
    terms.push_back({std::move(reward), config.weight});
  }
  return std::make_unique<WeightedRewards>(std::move(terms));
}

}  // namespace imageddpo
