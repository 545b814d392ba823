#pragma once

#include <memory>
#include <string>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// Size of the generated image as a JPEG file, in kB of 1000 bytes: rewarded when small
/// (compressibility: −kB) or large (incompressibility: +kB). The rewards of ddpo-pytorch's
/// jpeg_compressibility and jpeg_incompressibility. Part: `bytes`. An image with NaN in it has no
/// size; its value is NaN.
class JpegReward final : public Reward {
 public:
  explicit JpegReward(const RewardConfig& config) : config_(config) {}

  std::string name() const override { return "jpeg"; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  RewardConfig config_;
};

}  // namespace imageddpo
