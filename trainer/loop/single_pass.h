#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/trajectory/record/sample_gradients.h"
#include "trainer/algo/loss.h"
#include "trainer/loop/update.h"

namespace imageddpo {

/// The update without a replay. Where an epoch has one update, taken under the very weights that
/// sampled it, every ratio is 1, the clip is idle, and the gradient of the loss is
/// 1/(N·K) Σ_i −clamp(A_i) ∇ Σ_t log p_t(i): a weighted sum of gradients that the rollout has
/// collected already. Thread-compatible.
///
/// Shapes: B samples of a micro-batch, P parameters.
class SinglePassUpdate {
 public:
  /// @param gradients  where the rollout of this rank leaves them; outlives this.
  SinglePassUpdate(SampleGradients* gradients, const PpoOptions& options)
      : gradients_(gradients), options_(options) {}

  /// Adds the gradient of mean-loss × `weight` over one micro-batch, as ReplayUpdate::Accumulate
  /// would: sample after sample, in order.
  /// @param advantages_B  float32 on the CPU, not yet clamped.
  /// @param weight        1 / (micro-batches of the update × K).
  /// @return              K entries: the loss at ratio 1; no divergence, nothing clipped.
  std::vector<StepStatistics> Accumulate(int64_t micro_batch, const at::Tensor& advantages_B,
                                         int64_t num_steps, double weight);

  /// The sum since the last call: [P] float32.
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
