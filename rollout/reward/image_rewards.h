#pragma once

#include <memory>
#include <string>

#include "rollout/reward/reward.h"

namespace imageddpo {

/// `type: l1`, `l2`, `psnr` or `ssim`: the number of image_measures.h for the generated image and
/// the input image, or the target (`reference: target`). The value is the measure itself: with a
/// negative weight, l1 and l2 are penalties for a distance, psnr and ssim for a likeness. No parts.
class DistanceReward final : public Reward {
 public:
  explicit DistanceReward(const RewardConfig& config) : config_(config) {}

  std::string name() const override;
  RewardNeeds wants() const override;
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  RewardConfig config_;
};

/// `type: image_stat`: a number of image_measures.h for the generated image: brightness, contrast,
/// saturation, edge_energy or colour_entropy. The value is the measure itself. No parts.
class ImageStatReward final : public Reward {
 public:
  explicit ImageStatReward(const RewardConfig& config) : config_(config) {}

  std::string name() const override { return "image_stat"; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  RewardConfig config_;
};

}  // namespace imageddpo
