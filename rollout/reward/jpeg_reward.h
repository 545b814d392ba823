#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "rollout/reward/reward.h"

namespace imageddpo {

/// Size of the generated image as a JPEG file, in kB of 1000 bytes: rewarded when small
/// (compressibility: −kB) or large (incompressibility: +kB). The rewards of ddpo-pytorch's
/// jpeg_compressibility and jpeg_incompressibility. Part: `bytes`.
class JpegReward final : public Reward {
 public:
  /// @param config  Validate()d, type "jpeg".
  explicit JpegReward(const RewardConfig& config);

  std::string name() const override { return "jpeg"; }
  absl::StatusOr<RewardOutput> Score(const RewardInputs& inputs) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  double sign_;
  double clamp_;  // Infinite for no limit.
  int quality_;
};

}  // namespace imageddpo
