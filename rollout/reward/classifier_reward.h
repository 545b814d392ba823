#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rollout/reward/reward.h"
#include "rollout/reward/torchscript_module.h"

namespace imageddpo {

/// What is made of the classifier's logits; true means the example's label.
enum class ClassifierMeasure {
  kLogitChange,     ///< true class's logit of the generated image − of the input
  kMarginChange,    ///< margin of the generated image − of the input
  kLogitMaxMargin,  ///< margin of the generated image; margin: true class's logit − largest other
};

/// Rewards images in which a classifier sees the example's label. The classifier is a TorchScript
/// file: [N,3,H,W] float32 in [0,1] → logits [N,classes], at least two classes.
/// Parts: `correct` and `correct_input` (1 where the largest logit is the true class's, for the
/// generated and the input image; the first of equal ones counts), `logit` (true class's,
/// generated). The batch is given to the classifier as it comes, so equal batches have equal bits.
class ClassifierReward final : public Reward {
 public:
  /// @param config  Validate()d, type "classifier".
  static absl::StatusOr<std::unique_ptr<Reward>> Make(const RewardConfig& config,
                                                      at::Device device);

  std::string name() const override { return "classifier"; }
  absl::StatusOr<RewardOutput> Score(const RewardInputs& inputs) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  ClassifierReward(TorchScriptModule module, ClassifierMeasure measure, double clamp)
      : module_(std::move(module)), measure_(measure), clamp_(clamp) {}

  /// [B,classes] float64 on the CPU.
  absl::StatusOr<at::Tensor> Logits(const at::Tensor& images_BCHW);

  TorchScriptModule module_;
  ClassifierMeasure measure_;
  double clamp_;  // Infinite for no limit.
};

}  // namespace imageddpo
