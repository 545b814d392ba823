#include "common/diffusion/policy.h"

#include <ATen/ops/select.h>
#include <ATen/ops/zeros_like.h>

#include "common/device/copies.h"

namespace imageddpo {

PolicyOptions MakePolicyOptions(const v1::SampleSpec& sample, const Schedule& schedule) {
  return {.num_steps = sample.num_steps(),
          .guidance = {.scale = sample.guidance_scale(), .rescale = sample.guidance_rescale()},
          .eta = sample.eta(),
          .first_timestep = schedule.timesteps.front()};
}

namespace {

at::Tensor LayOut(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                  int64_t first_timestep) {
  const bool is_first = latents_BCHW.is_cpu() && first_timestep >= 0 && timesteps_B.numel() > 0 &&
                        timesteps_B.select(0, 0).item<int64_t>() == first_timestep;
  return latents_BCHW.contiguous(is_first ? at::MemoryFormat::ChannelsLast
                                          : at::MemoryFormat::Contiguous);
}

}  // namespace

StepConditioning Policy::Prepare(const Conditioning& conditioning) const {
  StepConditioning prepared = {.text = denoiser_.ProjectText(EmbedRows(
                                   conditioning.prompt_embeds_BLD, conditioning.negative_embeds_BLD,
                                   conditioning.same_tokens_B, options_.guidance)),
                               .same_tokens_B = conditioning.same_tokens_B};
  prepared.text.Cut();
  return prepared;
}

StepResult Policy::Sample(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                          const StepConditioning& conditioning,
                          const at::Tensor& noise_BCHW) const {
  return Step(latents_BCHW, timesteps_B, conditioning, options_.eta, noise_BCHW, {});
}

StepResult Policy::SampleWithoutNoise(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                                      const StepConditioning& conditioning) const {
  return Step(latents_BCHW, timesteps_B, conditioning, /*eta=*/0, at::zeros_like(latents_BCHW), {});
}

StepResult Policy::Replay(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                          const StepConditioning& conditioning,
                          const at::Tensor& next_latents_BCHW) const {
  return Step(latents_BCHW, timesteps_B, conditioning, options_.eta, {}, next_latents_BCHW);
}

StepResult Policy::Step(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                        const StepConditioning& conditioning, double eta,
                        const at::Tensor& noise_BCHW, const at::Tensor& next_latents_BCHW) const {
  const at::Tensor prediction_BCHW = Predict(latents_BCHW, timesteps_B, conditioning);
  return step_rule_.Step(prediction_BCHW, timesteps_B, latents_BCHW, options_.num_steps, eta,
                         noise_BCHW, next_latents_BCHW);
}

at::Tensor Policy::Predict(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                           const StepConditioning& conditioning) const {
  const RowPredictor predict = [&](const at::Tensor& latents_RCHW, const at::Tensor& timesteps_R) {
    return denoiser_.Forward(latents_RCHW, timesteps_R, conditioning.text);
  };
  return PredictGuided(predict, LayOut(latents_BCHW, timesteps_B, options_.first_timestep),
                       MoveTo(timesteps_B, latents_BCHW.device()), conditioning.same_tokens_B,
                       options_.guidance);
}

Policy Policy::WithoutGuidance() const {
  PolicyOptions options = options_;
  options.guidance = {};
  return {denoiser_, step_rule_, options};
}

}  // namespace imageddpo
