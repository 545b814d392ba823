#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/trajectory/record/sample_gradients.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/replay_update.h"

namespace imageddpo {

/// The update without a replay. If an epoch has one update, it is taken under the same weights that
/// sampled the epoch. Every ratio is then 1, nothing is clipped, and the gradient of the loss is
/// 1/(N·K) Σ_i −clamp(A_i) ∇ Σ_t log p_t(i): a weighted sum of gradients that the rollout has
/// already computed. Thread-compatible.
///
/// Shapes: B samples of a micro-batch, P parameters.
class SinglePassUpdate {
 public:
  /// @param gradients  filled by the rollout of this rank; must outlive this object.
  SinglePassUpdate(SampleGradients* gradients, const PpoOptions& options)
      : gradients_(gradients), options_(options) {}

  /// Adds the gradient of `weight` × mean loss of one micro-batch, like ReplayUpdate::Accumulate():
  /// sample after sample, in order.
  /// @param advantages_B  float32 on the CPU, not yet clamped.
  /// @param weight        1 / (micro-batches of the update × K).
  /// @return              K entries: the loss at ratio 1; no divergence, nothing clipped.
  std::vector<StepStatistics> Accumulate(int64_t micro_batch, const at::Tensor& advantages_B,
                                         int64_t num_steps, double weight);

  /// Returns the sum since the last call, [P] float32, and resets it.
  at::Tensor TakeGradient();

 private:
  SampleGradients* gradients_;
  PpoOptions options_;
  at::Tensor sum_P_;
};

/// sum_P += Σ_i −clamp(A_i)·weight/B · gradients_BP[i], in order of i.
void AddWeighted(const at::Tensor& gradients_BP, const at::Tensor& advantages_B,
                 const PpoOptions& options, double weight, const at::Tensor& sum_P);

}  // namespace imageddpo
