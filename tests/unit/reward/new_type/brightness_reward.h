#pragma once

#include <memory>
#include <string>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// The generated image's mean over all channels, from 0 to 1. A reward type that exists in this
/// test alone.
class BrightnessReward final : public Reward {
 public:
  std::string name() const override { return "brightness"; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;
};

}  // namespace imageddpo
