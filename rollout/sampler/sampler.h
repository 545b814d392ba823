#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/policy.h"
#include "common/sd/vae.h"
#include "common/trajectory/schedule/step_schedule.h"

namespace imageddpo {

/// Standard normal noise of executed step k, [B,C,h,w] float32, on the CPU or the model's device.
/// Called once per random step, in order, after the step before was queued, so that noise is drawn
/// on the CPU while a GPU works.
using StepNoise = std::function<at::Tensor(int64_t k)>;

/// The start of a batch of trajectories and every random number it uses. float32, on the CPU or the
/// model's device.
///
/// Shapes: B samples, K recorded steps (all that are executed, unless StepRecords names some), H W
/// pixels, C h w latents.
struct SamplerInputs {
  Vae::Posterior posterior;      ///< Of the images, [B,C,h,w] each: see EncodeImages().
  at::Tensor encode_noise_BCHW;  ///< [B,C,h,w], of the VAE posterior's sample.
  at::Tensor init_noise_BCHW;    ///< [B,C,h,w], added to the encoded image.
  StepNoise step_noise;
  Conditioning conditioning;
};

/// Which steps are random and recorded, what is wanted of them beside what every update needs, and
/// where.
struct StepRecords {
  /// Where latents and means are left: the CPU, or the model's device.
  at::Device device = at::kCPU;
  bool means = false;        ///< SampledTrajectories::means_BKCHW.
  Denoiser* base = nullptr;  ///< The policy's denoiser: base_means_BKCHW and kl_to_base_B too.
  bool base_of_all = true;   ///< The latter over all steps; else over those that are recorded.
  std::optional<EpochSteps> steps;  ///< Recorded are the trained ones. Not set: all are random.
};

/// On the CPU, except latents and means: see StepRecords::device.
struct SampledTrajectories {
  /// [B,K+1,C,h,w] float32: before each step and after the last. Where the steps do not follow each
  /// other there are more: see TrajectoryBatch::latents and latent_of_step.
  at::Tensor latents_BKCHW;
  std::vector<int64_t> latent_of_step;
  at::Tensor timesteps_BK;  ///< int64
  at::Tensor log_probs_BK;  ///< float32; 0 at deterministic steps.
  at::Tensor images_BCHW;   ///< [B,3,H,W] in [0,1].
  /// [B,K,C,h,w] float32: the means of the steps as drawn, and those of the base model's steps from
  /// the same latents. Undefined where StepRecords does not ask for them, as the next.
  at::Tensor means_BKCHW, base_means_BKCHW;
  at::Tensor kl_to_base_B;  ///< float64: the sum over the steps of GaussianKl() of the two.
};

/// The posteriors of images. As with every model, the last bits depend on the size of the batch.
/// @param images_BCHW  [B,3,H,W] float32 in [0,1]. @return  on `device`.
/// @throws std::invalid_argument  another shape; c10::Error from the model.
Vae::Posterior EncodeImages(const Vae& vae, const at::Tensor& images_BCHW,
                            at::Device device = at::kCPU);

/// Noises encoded images to the schedule's first executed step and denoises them:
/// z0 = (mean + std·encode_noise)·scaling_factor, z_start = add_noise(z0, init_noise), then the
/// schedule's steps, then decode and (x+1)/2 clamped to [0,1]. Waits for the device once, at the
/// end.
/// @param gradients  not null: each recorded step's log-probabilities are back-propagated into it
/// at once;
///                   what is sampled is the same, bit for bit. Null: no graph is recorded.
/// @param records    with a base, the model is run once more over the steps, without its LoRA.
/// @throws std::invalid_argument  shapes that do not fit, steps that are not Gaussian where their
/// means are wanted; c10::Error from the models.
SampledTrajectories SampleTrajectories(const Policy& policy, const Vae& vae,
                                       const Schedule& schedule, const SamplerInputs& inputs,
                                       at::Device device = at::kCPU,
                                       LogProbGradients* gradients = nullptr,
                                       const StepRecords& records = {});

}  // namespace imageddpo
