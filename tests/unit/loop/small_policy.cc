#include "tests/unit/loop/small_policy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <memory>
#include <stdexcept>
#include <utility>

#include "common/model_config/unet_config.h"
#include "tests/testing/stored_pipeline.h"

namespace imageddpo {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

}  // namespace

SmallPolicy::SmallPolicy(const SmallPolicyCase& c, bool recompute, int64_t side) {
  at::set_num_threads(1);
  at::manual_seed(7);
  const bool demo = c.model == "demo";
  const StoredPipeline stored(demo ? "sd1-plain" : c.model);
  const std::string dir = demo ? "deploy/demo/tiny-sd" : stored.model_path();
  pipeline = Must(Pipeline::Load(dir, {.dtype = c.dtype, .recompute = recompute},
                                 {.vae = true, .text = false}));
  lora = Must(
      Lora::Create(pipeline.denoiser->linears(), LoraConfig{.target_modules = c.target_modules},
                   [](const std::string&, at::IntArrayRef shape) { return at::randn(shape); }));
  for (const Lora::Module& module : lora.modules()) {
    const at::NoGradGuard no_grad;
    module.up_OR.normal_(0, 0.1);
  }
  Must(pipeline.denoiser->BindLora(lora));
  schedule = Must(pipeline.step_rule->MakeSchedule(kNumSteps, c.strength));
  policy.emplace(*pipeline.denoiser, *pipeline.step_rule,
                 PolicyOptions{.num_steps = kNumSteps,
                               .guidance = {.scale = c.guidance, .rescale = c.rescale},
                               .eta = c.eta,
                               .first_timestep = schedule.timesteps.front()});
  const int64_t pixels = side * pipeline.vae->config().downscale();
  const int64_t width = Must(UnetConfig::Load(dir + "/unet/config.json")).cross_attention_dim;
  const int64_t channels = pipeline.vae->config().latent_channels;
  inputs.posterior = EncodeImages(*pipeline.vae, at::rand({kBatch, 3, pixels, pixels}));
  inputs.encode_noise_BCHW = at::randn({kBatch, channels, side, side});
  inputs.init_noise_BCHW = at::randn({kBatch, channels, side, side});
  inputs.step_noise = [noise_BKCHW = at::randn({kBatch, kNumSteps, channels, side, side})](
                          int64_t k) { return noise_BKCHW.select(1, k).contiguous(); };
  Conditioning& conditioning = inputs.conditioning;
  conditioning.negative_embeds_BLD = at::randn({1, 5, width}).expand({kBatch, -1, -1}).contiguous();
  conditioning.prompt_embeds_BLD = at::randn({kBatch, 5, width});
  conditioning.same_tokens_B = c.same_tokens;
}

std::unique_ptr<LogProbGradients> SmallPolicy::Collector() {
  return std::make_unique<LogProbGradients>(pipeline.denoiser.get(), lora, kBatch,
                                            inputs.conditioning, policy->options().guidance);
}

SampledTrajectories SmallPolicy::Sample(LogProbGradients* gradients) {
  return SampleTrajectories(*policy, *pipeline.vae, schedule, inputs, at::kCPU, gradients);
}

ReplayBatch SmallPolicy::Batch(const SampledTrajectories& sampled) const {
  return {.latents_BKCHW = sampled.latents_BKCHW,
          .timesteps_BK = sampled.timesteps_BK,
          .log_probs_BK = sampled.log_probs_BK,
          .advantages_B = at::tensor({0.7F, -1.3F, 9.0F, -0.1F}),
          .conditioning = inputs.conditioning};
}

}  // namespace imageddpo
