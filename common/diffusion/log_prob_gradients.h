#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "common/diffusion/policy.h"
#include "common/lora/denoiser.h"
#include "common/lora/lora.h"

namespace imageddpo {

/// The gradient of each sample's summed log-probability with respect to the LoRA, collected step by
/// step: ∇ Σ_t log p_t, separately for each sample of one micro-batch, so that they can be weighted
/// by advantages that are known later. While an instance exists, backward passes through its
/// denoiser feed only it: the LoRA gets no gradients of its own. Thread-compatible.
///
/// Shapes: B samples, R rows of the denoiser's batch (B, or up to 2B with guidance), P parameters.
class LogProbGradients {
 public:
  /// @param denoiser  with `lora` bound; both outlive this. @param conditioning, guidance  of the
  /// steps to come, which decide the rows. @param loss_scale  a power of two that the backward
  /// passes are scaled with and Take() divides by, so that in fp16 small gradients do not vanish.
  LogProbGradients(Denoiser* denoiser, const Lora& lora, int64_t batch,
                   const Conditioning& conditioning, const Guidance& guidance,
                   double loss_scale = 1);
  ~LogProbGradients();
  LogProbGradients(const LogProbGradients&) = delete;
  LogProbGradients& operator=(const LogProbGradients&) = delete;

  /// Back-propagates one step's log-probabilities; its graph is freed. Deterministic samples add
  /// nothing.
  /// @param step  of Policy::Sample or Policy::Replay over the whole micro-batch, with grad mode
  /// on, and a StepConditioning that was prepared since this was made.
  void Add(const StepResult& step);

  /// The sum so far, to be taken after the StepConditioning's Backward(): [B,P] float32 on the
  /// denoiser's device, P in the order of Lora::Parameters(). Ends the collection.
  at::Tensor Take();

 private:
  Denoiser* denoiser_;
  int64_t batch_;
  double loss_scale_;
  std::vector<int64_t> row_samples_R_;
  std::vector<at::Tensor> row_gradients_;  ///< [R, shape] for each parameter.
};

}  // namespace imageddpo
