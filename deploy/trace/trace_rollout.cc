#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/diffusion/pipeline.h"
#include "common/lora/lora.h"
#include "deploy/trace/trace.h"
#include "deploy/trace/trace_files.h"
#include "rollout/sampler/sampler.h"

namespace imageddpo {
namespace {

struct EncodedPrompt {
  at::Tensor ids_BL;
  at::Tensor embeds_BLD;
};

/// One prompt for the whole batch. `rows` copies of it go through the text encoder in one call: the
/// last bits may depend on that.
EncodedPrompt EncodePrompt(const Pipeline& pipeline, const std::string& prompt, int64_t rows,
                           int64_t batch, at::Device device) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids_1L = at::tensor(pipeline.tokenizer->Encode(prompt), at::kLong).unsqueeze(0);
  const at::Tensor embeds_RLD =
      pipeline.text_encoder->Forward(ids_1L.expand({rows, -1}).contiguous().to(device));
  return {ids_1L.expand({batch, -1}).contiguous(), embeds_RLD.expand({batch, -1, -1}).contiguous()};
}

absl::StatusOr<SamplerInputs> ReadInputs(const std::string& path, const Vae& vae, int64_t num_steps,
                                         at::Device device) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  SamplerInputs inputs;
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor images_BCHW,
                             GetTensor(*file, "image", at::kFloat, {-1, 3, -1, -1}));
  const int64_t batch = images_BCHW.size(0);
  if (images_BCHW.min().item<float>() < 0 || images_BCHW.max().item<float>() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": tensor image must lie in [0, 1]"));
  }
  const int64_t latent_channels = vae.config().latent_channels;
  const std::vector<int64_t> latent_shape = {batch, latent_channels, -1, -1};
  IMAGEDDPO_ASSIGN_OR_RETURN(inputs.encode_noise_BCHW,
                             GetTensor(*file, "encode_noise", at::kFloat, latent_shape));
  IMAGEDDPO_ASSIGN_OR_RETURN(inputs.init_noise_BCHW,
                             GetTensor(*file, "init_noise", at::kFloat, latent_shape));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const at::Tensor step_noise_BKCHW,
      GetTensor(*file, "step_noise", at::kFloat, {batch, -1, latent_channels, -1, -1}));
  if (step_noise_BKCHW.size(1) < num_steps) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": tensor step_noise has ",
                                                   step_noise_BKCHW.size(1), " steps; ", num_steps,
                                                   " are executed"));
  }
  inputs.step_noise = [step_noise_BKCHW](int64_t k) {
    return step_noise_BKCHW.select(1, k).contiguous();
  };
  inputs.posterior = EncodeImages(vae, images_BCHW, device);
  return inputs;
}

}  // namespace

absl::Status TraceRollout(const TraceRolloutOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ModelOptions model, MakeModelOptions(options.policy));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Pipeline pipeline, Pipeline::Load(options.model, model));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Schedule schedule,
      pipeline.step_rule->MakeSchedule(options.policy.num_steps, options.noise_strength));
  IMAGEDDPO_RETURN_IF_ERROR(pipeline.step_rule->CheckRunnable(schedule, options.policy.eta));
  if (!options.lora.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        const Lora lora,
        Lora::Load(options.lora, pipeline.denoiser->linears(), {.device = model.device}));
    IMAGEDDPO_RETURN_IF_ERROR(pipeline.denoiser->BindLora(lora).status());
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SamplerInputs inputs,
      ReadInputs(options.inputs, *pipeline.vae, static_cast<int64_t>(schedule.timesteps.size()),
                 model.device));

  const int64_t batch = inputs.init_noise_BCHW.size(0);
  // As the original calls it: with every sample's prompt, and with one negative prompt for all.
  const EncodedPrompt prompt = EncodePrompt(pipeline, options.prompt, batch, batch, model.device);
  const EncodedPrompt negative =
      EncodePrompt(pipeline, options.negative_prompt, 1, batch, model.device);
  inputs.conditioning = {
      prompt.embeds_BLD, negative.embeds_BLD,
      std::vector<bool>(static_cast<size_t>(batch), prompt.ids_BL.equal(negative.ids_BL))};

  const Policy policy(*pipeline.denoiser, *pipeline.step_rule,
                      MakePolicyOptions(options.policy, schedule.timesteps.front()));
  const SampledTrajectories sampled =
      SampleTrajectories(policy, *pipeline.vae, schedule, inputs, model.device);
  const int64_t num_steps = sampled.timesteps_BK.size(1);
  return WriteSafetensors(options.output,
                          {{"latents", sampled.latents_BKCHW.narrow(1, 0, num_steps)},
                           {"next_latents", sampled.latents_BKCHW.narrow(1, 1, num_steps)},
                           {"timesteps", sampled.timesteps_BK},
                           {"log_probs", sampled.log_probs_BK},
                           {"images", sampled.images_BCHW},
                           {"prompt_ids", prompt.ids_BL},
                           {"prompt_embeds", prompt.embeds_BLD},
                           {"negative_prompt_embeds", negative.embeds_BLD}});
}

}  // namespace imageddpo
