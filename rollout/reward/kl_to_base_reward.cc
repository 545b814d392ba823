#include "rollout/reward/kl_to_base_reward.h"

#include <utility>

namespace imageddpo {

std::unique_ptr<PendingReward> KlToBaseReward::Start(std::shared_ptr<const RewardBatch> batch) {
  return ComputeInWait([batch = std::move(batch)]() -> absl::StatusOr<RewardOutput> {
    if (!batch->kl_to_base_B.defined()) {
      return absl::InternalError("the sampler has not compared the steps with the base model's");
    }
    RewardOutput output;
    for (int64_t i = 0; i < batch->size(); ++i) {
      output.values_B.emplace_back(batch->kl_to_base_B[i].item<double>());
    }
    return output;
  });
}

absl::Status KlToBaseReward::CheckDataset(const Dataset&, int, int) { return absl::OkStatus(); }

}  // namespace imageddpo
