#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/statusor.h>

#include <vector>

#include "common/config/resolved_job.h"
#include "common/diffusion/guidance.h"
#include "common/diffusion/step_rule.h"
#include "common/lora/denoiser.h"

namespace imageddpo {

/// What a batch of B samples is conditioned on, float32 on the model's device.
struct Conditioning {
  at::Tensor prompt_embeds_BLD;  ///< May be undefined at guidance scale <= 1.
  at::Tensor negative_embeds_BLD;
  std::vector<bool> same_tokens_B;  ///< Prompt and negative prompt have equal tokens.
};

/// A Conditioning as the steps of one micro-batch need it, under the LoRA's values of that moment.
struct StepConditioning {
  ProjectedText text;  ///< Detached by Cut(); call Backward() after the last step with gradients.
  std::vector<bool> same_tokens_B;
};

struct PolicyOptions {
  int64_t num_steps = 50;  ///< T of the full schedule.
  Guidance guidance;
  double eta = 1.0;
  /// Of the first executed step (Schedule::timesteps.front()); -1 where it is not known. Its
  /// latents have a memory layout of their own, see Policy.
  int64_t first_timestep = -1;
};

/// The options of a job's policy. @param schedule  of these steps and noise strength.
PolicyOptions MakePolicyOptions(const v1::SampleSpec& sample, const Schedule& schedule);

/// The policy that is trained: a denoiser, a step rule, and the settings of both. Rollout and
/// update call the same two functions, so that a replayed step repeats the rollout's arithmetic
/// exactly. Holds references only; cheap to make.
///
/// Kernels round differently for each memory layout, so the layout of the model's input is decided
/// here and not by what the caller holds: channels-last before the first executed step, contiguous
/// before the others. That is how the latents of diffusers' pipelines come out of the image encoder
/// and out of a scheduler step, and it makes a rollout on the CPU bit-equal to theirs. On other
/// devices all are contiguous.
///
/// Shapes: B samples, C h w latents.
class Policy {
 public:
  Policy(const Denoiser& denoiser, const StepRule& step_rule, const PolicyOptions& options)
      : denoiser_(denoiser), step_rule_(step_rule), options_(options) {}

  /// Call it once for each micro-batch; builds a graph if grad mode is on.
  /// @throws std::invalid_argument  batch sizes that differ.
  StepConditioning Prepare(const Conditioning& conditioning) const;

  /// Draws the next latents, from standard normal noise. For timesteps see StepRule::Step().
  StepResult Sample(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                    const StepConditioning& conditioning, const at::Tensor& noise_BCHW) const;

  /// The next latents without noise, as with eta 0.
  StepResult SampleWithoutNoise(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                                const StepConditioning& conditioning) const;

  /// log p(next | latents) under the current weights, with the graph to the LoRA where grad mode is
  /// on.
  StepResult Replay(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                    const StepConditioning& conditioning,
                    const at::Tensor& next_latents_BCHW) const;

  /// The denoiser's prediction, with this policy's guidance: [B,C,h,w] float32.
  at::Tensor Predict(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const StepConditioning& conditioning) const;
  /// The same denoiser and steps under a single text, that of Conditioning::negative_embeds_BLD.
  Policy WithoutGuidance() const;

  const StepRule& step_rule() const { return step_rule_; }
  const PolicyOptions& options() const { return options_; }

 private:
  StepResult Step(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                  const StepConditioning& conditioning, double eta, const at::Tensor& noise_BCHW,
                  const at::Tensor& next_latents_BCHW) const;

  const Denoiser& denoiser_;
  const StepRule& step_rule_;
  PolicyOptions options_;
};

}  // namespace imageddpo
