#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/diffusion/policy.h"
#include "common/lora/lora.h"
#include "trainer/algo/adamw.h"
#include "trainer/algo/loss_rule.h"

namespace imageddpo {

/// One micro-batch of recorded trajectories, as an update replays it. float32, any device but for
/// the timesteps.
///
/// Shapes: B samples, K recorded steps, C h w latents.
struct ReplayBatch {
  at::Tensor
      latents_BKCHW;        ///< [B,K+1,C,h,w]: before each step and after the last; latent_of_step.
  at::Tensor timesteps_BK;  ///< int64, on the CPU.
  at::Tensor log_probs_BK;  ///< Recorded in the rollout.
  at::Tensor advantages_B;  ///< Not yet clamped.
  Conditioning conditioning;
  /// The proximal policy, see LossInputs. kRecorded: the policy that sampled. The other two are for
  /// stale samples. kCurrent: the current weights, in the epoch's first update, when they are still
  /// those of the epoch's start. kGiven: those same weights in later updates, as
  /// proximal_log_probs_BK from ReplayUpdate::LogProbs().
  enum class Proximal { kRecorded, kCurrent, kGiven };
  Proximal proximal = Proximal::kRecorded;
  at::Tensor proximal_log_probs_BK;  ///< kGiven only.
  int64_t age = 0;  ///< Epochs of training between the policy that sampled and the proximal one.
  /// [B,K,C,h,w]: the steps' means under the policy that sampled, and under the base model;
  /// undefined where the loss does not need them.
  at::Tensor means_BKCHW, base_means_BKCHW;
  at::Tensor is_kept_B;  ///< bool: false for samples that are left out. Undefined: all are kept.
  std::vector<int64_t>
      latent_of_step;  ///< As that of a TrajectoryBatch, also for how many latents.
};

/// Results of replaying one timestep of one micro-batch.
struct StepStatistics {
  double loss = 0;  ///< Mean over the B samples.
  double approx_kl = 0;
  double clipfrac = 0;
  double ratio_max_error = 0;                ///< max over B of |ratio - 1|.
  double clipped_high = 0, clipped_low = 0;  ///< What of clipfrac is above and below.
  /// Means over B of d and of d², with d = ratio - 1, so that standard deviations can be computed
  /// without cancellation. `behaviour`: of the ratio proximal/recorded; `proximal`: of
  /// current/proximal.
  double behaviour_mean = 0, behaviour_square = 0, proximal_mean = 0, proximal_square = 0;
  /// Mean and maximum over B of LossInputs::kl_to_recorded_B; LossResult::masked; mean of
  /// LossInputs::kl_to_base_B. 0 where they are undefined.
  double kl_mean = 0, kl_max = 0, masked = 0, kl_to_base = 0;
};

/// Numbers of StepStatistics, whose fields in their order are a row: N below.
constexpr int64_t kNumbersPerStep = 14;

/// The statistics of steps that an update has left as numbers. Waits for their device.
/// @param numbers_KN  [K,kNumbersPerStep] float64, any device.
std::vector<StepStatistics> StatisticsOf(const at::Tensor& numbers_KN);

/// Replays micro-batches and sums the LoRA's gradient: forward and backward again over the stored
/// latents, with one graph per timestep, which is freed at once. Leaves the parameters' .grad
/// undefined between calls. Thread-compatible.
class ReplayUpdate {
 public:
  /// @param parameters  the LoRA's, bound to the policy's denoiser; float32 leaves that require
  /// gradients. @param loss  outlives this, as does the policy.
  ReplayUpdate(const Policy& policy, std::vector<at::Tensor> parameters, const LossRule& loss);

  /// Adds the gradient of `weight` × mean loss of `batch` to the sum that TakeGradient() returns.
  /// @param weight  1 / (micro-batches of the update × K), so that an update's gradients add up to
  ///                that of the mean over its N samples × K steps.
  /// @return        [K,kNumbersPerStep] float64 on the parameters' device: see StatisticsOf(). Not
  ///                read here, since the host would wait for every step that it has just asked for.
  at::Tensor Accumulate(const ReplayBatch& batch, double weight);

  /// The same for noised target images (train.objective: sft), whose loss is the squared error of
  /// the policy's prediction, a mean over B, C, h and w.
  /// @param batch  latents [B,2,C,h,w]: the noised ones, and what is to be predicted from them.
  /// @return       as Accumulate(), of one step, with the loss alone.
  at::Tensor AccumulateDenoising(const ReplayBatch& batch, double weight);

  /// From now on losses are multiplied by `scale` before the backward pass; TakeGradient() divides
  /// by it. @param scale  a power of two; initially 1.
  void SetLossScale(double scale) { loss_scale_ = scale; }

  /// log p of the recorded steps under the current weights, without gradients: [B,K] float32 on the
  /// parameters' device, with the same bits as in Accumulate().
  at::Tensor LogProbs(const ReplayBatch& batch) const;

  /// Returns the sum since the last call, as one flat [P] float32 tensor in parameter order, and
  /// resets it. Zeros where nothing had a gradient.
  at::Tensor TakeGradient();

 private:
  StepResult Step(const ReplayBatch& on_device, const StepConditioning& conditioning,
                  int64_t k) const;
  ReplayBatch ToDevice(const ReplayBatch& batch) const;

  const Policy policy_;
  std::vector<at::Tensor> parameters_;
  const LossRule& loss_;
  double loss_scale_ = 1;
};

/// Views of a flat [P] gradient in the shapes of `parameters`.
std::vector<at::Tensor> SplitLike(const at::Tensor& flat_P,
                                  const std::vector<at::Tensor>& parameters);

/// Clips once over all parameters and takes one optimizer step.
/// @param accepts  asked for a finite norm before clipping; false: no step. Null: accepts all.
/// @return the norm before clipping; if it is not finite, nothing was changed (see LossScaler).
double ClipAndStep(const at::Tensor& gradient_P, double max_grad_norm,
                   const std::vector<at::Tensor>& parameters, AdamW* optimizer,
                   const std::function<bool(double norm)>& accepts = nullptr);

}  // namespace imageddpo
