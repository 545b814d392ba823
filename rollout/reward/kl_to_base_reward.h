#pragma once

#include <memory>
#include <string>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// `type: kl_to_base`: how far the sample's steps are from those of the base model,
/// RewardBatch::kl_to_base_B. The value is the divergence itself, so that a negative weight makes
/// it a penalty, subtracted from the reward before there are advantages. No parts.
class KlToBaseReward final : public Reward {
 public:
  std::string name() const override { return "kl_to_base"; }
  RewardNeeds wants() const override { return {.kl_to_base = true}; }
  /// Wait() is INTERNAL where the batch has no divergences.
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;
};

}  // namespace imageddpo
