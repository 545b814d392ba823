#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "rollout/reward/reward.h"
#include "rollout/reward/reward_host.h"
#include "rollout/reward/torchscript_module.h"

namespace imageddpo {

/// Rewards images in which a classifier sees the example's label. The classifier is a TorchScript
/// file: [N,3,H,W] float32 in [0,1] → logits [N,classes], at least two classes.
/// Parts: `correct` and `correct_input` (1 where the largest logit is the true class's, for the
/// generated and the input image; the first of equal ones counts), `logit` (true class's,
/// generated). The batch is given to the classifier as it comes, so equal batches have equal bits.
/// An item whose label is missing or unknown to the classifier is INVALID_ARGUMENT; CheckDataset()
/// refuses data with such images, but with `on_error: drop`.
class ClassifierReward final : public Reward {
 public:
  static absl::StatusOr<std::unique_ptr<Reward>> Make(const RewardConfig& config, at::Device device,
                                                      const RewardHost& host);

  std::string name() const override { return "classifier"; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  ClassifierReward(TorchScriptModule module, const RewardConfig& config, RewardHost host)
      : module_(std::move(module)), config_(config), host_(std::move(host)) {}

  TorchScriptModule module_;
  RewardConfig config_;
  RewardHost host_;
};

}  // namespace imageddpo
