#include "tests/unit/reward/new_type/brightness_reward.h"

#include <utility>

namespace imageddpo {

std::unique_ptr<PendingReward> BrightnessReward::Start(std::shared_ptr<const RewardBatch> batch) {
  return ComputeInWait([batch = std::move(batch)] {
    RewardOutput output;
    for (int64_t i = 0; i < batch->size(); ++i) {
      output.values_B.emplace_back(batch->generated_BCHW[i].mean().item<double>());
    }
    return output;
  });
}

absl::Status BrightnessReward::CheckDataset(const Dataset&, int, int) { return absl::OkStatus(); }

}  // namespace imageddpo
