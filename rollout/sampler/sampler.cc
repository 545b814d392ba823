#include "rollout/sampler/sampler.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <stdexcept>
#include <vector>

#include "common/device/copies.h"
#include "common/diffusion/gaussian_kl.h"

namespace imageddpo {
namespace {

void CheckShape(const char* name, const at::Tensor& tensor, at::IntArrayRef wanted) {
  if (tensor.defined() && tensor.sizes() == wanted) return;
  const auto text = [](at::IntArrayRef shape) {
    return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
  };
  throw std::invalid_argument(absl::StrCat(name, " is ",
                                           tensor.defined() ? text(tensor.sizes()) : "missing",
                                           ", expected ", text(wanted)));
}

at::Tensor MeanOf(const StepResult& step) {
  if (step.mean_BCHW.defined()) return step.mean_BCHW.detach();
  throw std::invalid_argument("the means of steps that are not Gaussian are wanted");
}

}  // namespace

Vae::Posterior EncodeImages(const Vae& vae, const at::Tensor& images_BCHW, at::Device device) {
  const at::NoGradGuard no_grad;
  if (images_BCHW.dim() != 4) throw std::invalid_argument("images must be [B,3,H,W]");
  return vae.Encode(2.0 * MoveTo(images_BCHW, device) - 1.0);
}

SampledTrajectories SampleTrajectories(const Policy& policy, const Vae& vae,
                                       const Schedule& schedule, const SamplerInputs& inputs,
                                       at::Device device, LogProbGradients* gradients,
                                       const StepRecords& records) {
  const at::NoGradGuard no_grad;
  const at::Tensor mean_BCHW = MoveTo(inputs.posterior.mean_BCHW, device);
  const at::Tensor std_BCHW = MoveTo(inputs.posterior.std_BCHW, device);
  if (mean_BCHW.dim() != 4) throw std::invalid_argument("posteriors must be [B,C,h,w]");
  const int64_t b = mean_BCHW.size(0), c = vae.config().latent_channels;
  const int64_t h = mean_BCHW.size(2), w = mean_BCHW.size(3);
  const int64_t num_steps = static_cast<int64_t>(schedule.timesteps.size());
  CheckShape("posterior mean", mean_BCHW, {b, c, h, w});
  CheckShape("posterior std", std_BCHW, {b, c, h, w});
  CheckShape("encode_noise", inputs.encode_noise_BCHW, {b, c, h, w});
  CheckShape("init_noise", inputs.init_noise_BCHW, {b, c, h, w});

  const at::Tensor encoded_BCHW =
      (mean_BCHW + std_BCHW * MoveTo(inputs.encode_noise_BCHW, device)) *
      vae.config().scaling_factor;

  at::Tensor latents_BCHW =
      policy.step_rule().AddNoise(encoded_BCHW, MoveTo(inputs.init_noise_BCHW, device),
                                  at::full({b}, schedule.timesteps.front(), at::kLong));

  std::vector<at::Tensor> latents = {latents_BCHW};
  std::vector<at::Tensor> log_probs, means, sigmas;
  const bool keeps_means = records.means || records.base != nullptr;
  {
    const at::AutoGradMode with_graph(gradients != nullptr);
    StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    for (int64_t k = 0; k < num_steps; ++k) {
      const at::Tensor noise_BCHW = inputs.step_noise(k);
      CheckShape("step_noise", noise_BCHW, {b, c, h, w});
      const at::Tensor timesteps_B = at::full({b}, schedule.timesteps[k], at::kLong);
      const auto step =
          policy.Sample(latents_BCHW, timesteps_B, conditioning, MoveTo(noise_BCHW, device));
      if (gradients != nullptr) gradients->Add(step);
      latents_BCHW = step.prev_sample_BCHW;
      latents.push_back(latents_BCHW);
      log_probs.push_back(step.log_prob_B.detach());
      if (!keeps_means) continue;
      means.push_back(MeanOf(step));
      sigmas.push_back(step.sigma_B);
    }
    conditioning.text.Backward();
  }

  const at::Tensor decoded_BCHW = vae.Decode(latents_BCHW / vae.config().scaling_factor);
  SampledTrajectories result;
  result.latents_BKCHW = at::stack(latents, 1);
  result.timesteps_BK = at::tensor(schedule.timesteps, at::kLong).unsqueeze(0).repeat({b, 1});
  result.log_probs_BK = at::stack(log_probs, 1);
  result.images_BCHW = (decoded_BCHW / 2 + 0.5).clamp(0, 1);
  if (records.means) result.means_BKCHW = at::stack(means, 1);
  if (records.base != nullptr) {
    const WithoutLora base(records.base);
    const StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    std::vector<at::Tensor> base_means, kls;
    for (size_t k = 0; k < means.size(); ++k) {
      base_means.push_back(
          MeanOf(policy.Replay(latents[k], at::full({b}, schedule.timesteps[k], at::kLong),
                               conditioning, latents[k + 1])));
      kls.push_back(GaussianKl(means[k], base_means[k], sigmas[k]).to(at::kDouble));
    }
    result.base_means_BKCHW = at::stack(base_means, 1);
    result.kl_to_base_B = at::stack(kls, 1).sum(1);
  }
  std::vector<at::Tensor*> to_read = {&result.log_probs_BK, &result.images_BCHW,
                                      &result.kl_to_base_B};
  if (records.device.is_cpu()) {
    to_read.insert(to_read.end(),
                   {&result.latents_BKCHW, &result.means_BKCHW, &result.base_means_BKCHW});
  }
  std::vector<at::Tensor> values;
  for (const at::Tensor* tensor : to_read) values.push_back(*tensor);
  values = ReadTogether(values);
  for (size_t i = 0; i < to_read.size(); ++i) *to_read[i] = values[i];
  return result;
}

}  // namespace imageddpo
