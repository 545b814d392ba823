#include "rollout/reward/reward.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

class ComputedInWait final : public PendingReward {
 public:
  explicit ComputedInWait(std::function<absl::StatusOr<RewardOutput>()> compute)
      : compute_(std::move(compute)) {}

  absl::StatusOr<RewardOutput> Wait(RewardDeadline) override { return compute_(); }

 private:
  std::function<absl::StatusOr<RewardOutput>()> compute_;
};

}  // namespace

absl::Status CheckBatch(const RewardBatch& batch) {
  const auto bad = [](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("cannot score: ", what));
  };
  const at::Tensor& generated = batch.generated_BCHW;
  if (!generated.defined() || generated.dim() != 4 || generated.size(1) != 3) {
    return bad("the generated images are not a tensor [B, 3, H, W]");
  }
  if (!batch.inputs_BCHW.defined() || batch.inputs_BCHW.dim() != 4 ||
      batch.inputs_BCHW.size(0) != generated.size(0) || batch.inputs_BCHW.size(1) != 3) {
    return bad("the input images are not a tensor [B, 3, H, W] of as many images as generated");
  }
  if (batch.targets_BCHW.defined() && batch.targets_BCHW.sizes() != generated.sizes()) {
    return bad("the targets are not as many images of the size of the generated ones");
  }
  const auto num_items = static_cast<size_t>(generated.size(0));
  if (batch.kl_to_base_B.defined() &&
      batch.kl_to_base_B.sizes() != at::IntArrayRef{generated.size(0)}) {
    return bad("the divergences from the base model are not one for each image");
  }
  if (batch.prompts.size() != num_items || batch.examples.size() != num_items) {
    return bad(absl::StrCat(num_items, " images, but ", batch.prompts.size(), " prompts and ",
                            batch.examples.size(), " examples"));
  }
  return absl::OkStatus();
}

absl::Status CheckTargets(const Dataset& dataset) {
  for (int64_t i = 0; i < dataset.size(); ++i) {
    if (dataset.HasTarget(i)) continue;
    const Example example = dataset.at(i);
    return absl::InvalidArgumentError(
        absl::StrCat("example '", example.id, "' (", example.file_name, ") has no target image; ",
                     "add \"target_file_name\" to its line in the metadata, or let `data.corrupt` "
                     "make the inputs of clean images"));
  }
  return absl::OkStatus();
}

std::unique_ptr<PendingReward> ComputeInWait(
    std::function<absl::StatusOr<RewardOutput>()> compute) {
  return std::make_unique<ComputedInWait>(std::move(compute));
}

absl::StatusOr<RewardOutput> Score(Reward* reward, std::shared_ptr<const RewardBatch> batch,
                                   std::chrono::milliseconds timeout) {
  const RewardDeadline deadline = std::chrono::steady_clock::now() + timeout;
  IMAGEDDPO_RETURN_IF_ERROR(CheckBatch(*batch));
  return reward->Start(std::move(batch))->Wait(deadline);
}

}  // namespace imageddpo
