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

/// A copy from pinned memory is asynchronous: the host does not wait for it.
at::Tensor Upload(const at::Tensor& noise_BCHW, at::Device device) {
  if (device.is_cpu() || !noise_BCHW.is_cpu()) return noise_BCHW.to(device);
  return noise_BCHW.pin_memory().to(device, /*non_blocking=*/true);
}

at::Tensor MeanOf(const StepResult& step) {
  if (step.mean_BCHW.defined()) return step.mean_BCHW.detach();
  throw std::invalid_argument("the means of steps that are not Gaussian are wanted");
}

}  // namespace

Vae::Posterior EncodeImages(const Vae& vae, const at::Tensor& images_BCHW, at::Device device) {
  const at::NoGradGuard no_grad;
  if (images_BCHW.dim() != 4) throw std::invalid_argument("images must be [B,3,H,W]");
  return vae.Encode(2.0 * images_BCHW.to(device) - 1.0);
}

SampledTrajectories SampleTrajectories(const Policy& policy, const Vae& vae,
                                       const Schedule& schedule, const SamplerInputs& inputs,
                                       at::Device device, LogProbGradients* gradients,
                                       const StepRecords& records) {
  const at::NoGradGuard no_grad;
  const at::Tensor mean_BCHW = inputs.posterior.mean_BCHW.to(device);
  const at::Tensor std_BCHW = inputs.posterior.std_BCHW.to(device);
  if (mean_BCHW.dim() != 4) throw std::invalid_argument("posteriors must be [B,C,h,w]");
  const int64_t b = mean_BCHW.size(0), c = vae.config().latent_channels;
  const int64_t h = mean_BCHW.size(2), w = mean_BCHW.size(3);
  const int64_t num_steps = static_cast<int64_t>(schedule.timesteps.size());
  CheckShape("posterior mean", mean_BCHW, {b, c, h, w});
  CheckShape("posterior std", std_BCHW, {b, c, h, w});
  CheckShape("encode_noise", inputs.encode_noise_BCHW, {b, c, h, w});
  CheckShape("init_noise", inputs.init_noise_BCHW, {b, c, h, w});

  const at::Tensor encoded_BCHW =
      (mean_BCHW + std_BCHW * inputs.encode_noise_BCHW.to(device)) * vae.config().scaling_factor;

  const auto index = at::TensorOptions().dtype(at::kLong).device(device);
  at::Tensor latents_BCHW =
      policy.step_rule().AddNoise(encoded_BCHW, inputs.init_noise_BCHW.to(device),
                                  at::full({b}, schedule.timesteps.front(), index));

  std::vector<at::Tensor> latents = {latents_BCHW};
  std::vector<at::Tensor> log_probs, means, sigmas;
  const bool keeps_means = records.means || records.base != nullptr;
  {
    const at::AutoGradMode with_graph(gradients != nullptr);
    StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    for (int64_t k = 0; k < num_steps; ++k) {
      const at::Tensor noise_BCHW = inputs.step_noise(k);
      CheckShape("step_noise", noise_BCHW, {b, c, h, w});
      const at::Tensor timesteps_B = at::full({b}, schedule.timesteps[k], index);
      const auto step =
          policy.Sample(latents_BCHW, timesteps_B, conditioning, Upload(noise_BCHW, device));
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
  result.latents_BKCHW = at::stack(latents, 1).to(at::kCPU);
  result.timesteps_BK = at::tensor(schedule.timesteps, at::kLong).unsqueeze(0).repeat({b, 1});
  result.log_probs_BK = at::stack(log_probs, 1).to(at::kCPU);
  result.images_BCHW = (decoded_BCHW / 2 + 0.5).clamp(0, 1).to(at::kCPU);
  if (records.means) result.means_BKCHW = at::stack(means, 1).to(at::kCPU);
  if (records.base != nullptr) {
    const WithoutLora base(records.base);
    const StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    std::vector<at::Tensor> base_means, kls;
    for (size_t k = 0; k < means.size(); ++k) {
      base_means.push_back(MeanOf(policy.Replay(
          latents[k], at::full({b}, schedule.timesteps[k], index), conditioning, latents[k + 1])));
      kls.push_back(GaussianKl(means[k], base_means[k], sigmas[k]).to(at::kDouble));
    }
    result.base_means_BKCHW = at::stack(base_means, 1).to(at::kCPU);
    result.kl_to_base_B = at::stack(kls, 1).sum(1).to(at::kCPU);
  }
  return result;
}

}  // namespace imageddpo
