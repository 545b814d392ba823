#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/trajectory/record/sample_gradients.h"
#include "trainer/algo/loss_rule.h"
#include "trainer/loop/replay_update.h"

namespace imageddpo {

/// The update without a replay. If an epoch has one update, it is taken under the same weights that
/// sampled the epoch. Every ratio is then 1, and the gradient of the loss is a weighted sum of
/// gradients that the rollout has already computed: 1/(N·K) Σ_i d_i ∇ Σ_t log p_t(i), with the
/// derivatives d_i of LossRule::LossAtSampling(). Thread-compatible.
///
/// Shapes: B samples of a micro-batch, P parameters.
class SinglePassUpdate {
 public:
  /// @param gradients  filled by the rollout of this rank. Both outlive this.
  SinglePassUpdate(SampleGradients* gradients, const LossRule& loss)
      : gradients_(gradients), loss_(loss) {}

  /// Adds the gradient of `weight` × mean loss of one micro-batch, like ReplayUpdate::Accumulate():
  /// sample after sample, in order.
  /// @param advantages_B  float32 on the CPU, not yet clamped.
  /// @param weight        1 / (micro-batches of the update × K).
  /// @return              [K,kNumbersPerStep] float64 on the CPU, see StatisticsOf(): the loss at
  ///                      ratio 1; no divergence, nothing clipped.
  at::Tensor Accumulate(int64_t micro_batch, const at::Tensor& advantages_B, int64_t num_steps,
                        double weight);

  /// Returns the sum since the last call, [P] float32, and resets it.
  at::Tensor TakeGradient();

 private:
  SampleGradients* gradients_;
  const LossRule& loss_;
  at::Tensor sum_P_;
};

/// sum_P += Σ_i derivative_B[i]·weight/B · gradients_BP[i], in order of i.
/// @throws std::invalid_argument  not B derivatives.
void AddWeighted(const at::Tensor& gradients_BP, const std::vector<double>& derivative_B,
                 double weight, const at::Tensor& sum_P);

}  // namespace imageddpo
