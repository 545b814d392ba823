#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>

namespace imageddpo {

/// Where a rank's rollout leaves the gradients that its trainer weights once the epoch's rewards
/// are known: how a single pass crosses from one to the other, without leaving the rank.
/// Thread-compatible.
///
/// Shapes: B samples of a micro-batch, P parameters of the LoRA.
class SampleGradients {
 public:
  /// @param gradients_BP  float32, ∇ Σ_t log p_t of each sample; see LogProbGradients.
  /// @throws std::invalid_argument  the micro-batch is there already.
  void Put(int64_t micro_batch, at::Tensor gradients_BP);

  /// Hands out a micro-batch's gradients and forgets them, so that memory is freed as they are
  /// used.
  /// @throws std::invalid_argument  they are not there: this rank did not sample it.
  at::Tensor Take(int64_t micro_batch);

  /// What the backward passes of the samples to come are scaled with; see LogProbGradients. What is
  /// put here is unscaled.
  double loss_scale() const { return loss_scale_; }
  void set_loss_scale(double scale) { loss_scale_ = scale; }

  bool empty() const { return gradients_.empty(); }

 private:
  std::map<int64_t, at::Tensor> gradients_;
  double loss_scale_ = 1;
};

}  // namespace imageddpo
