#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>

namespace imageddpo {

/// The gradients of single samples on one rank, from its rollout to its trainer. Used by the single
/// pass: the rollout puts them here, and the trainer weights them once the epoch's rewards are
/// known. They never leave the rank. Thread-compatible.
///
/// Shapes: B samples of a micro-batch, P parameters of the LoRA.
class SampleGradients {
 public:
  /// @param gradients_BP  float32, unscaled: ∇ Σ_t log p_t of each sample; see LogProbGradients.
  /// @throws std::invalid_argument  the micro-batch has been put already.
  void Put(int64_t micro_batch, at::Tensor gradients_BP);

  /// Removes and returns the gradients of a micro-batch, so that memory is freed as they are used.
  /// @throws std::invalid_argument  they are not here: this rank did not sample the micro-batch.
  at::Tensor Take(int64_t micro_batch);

  /// The scale for backward passes of the next samples; see LogProbGradients.
  double loss_scale() const { return loss_scale_; }
  void set_loss_scale(double scale) { loss_scale_ = scale; }

  bool empty() const { return gradients_.empty(); }

 private:
  std::map<int64_t, at::Tensor> gradients_;
  double loss_scale_ = 1;
};

}  // namespace imageddpo
