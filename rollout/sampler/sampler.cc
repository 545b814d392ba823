#include "rollout/sampler/sampler.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
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

/// Without a graph, and where it is of no use without the mean.
StepResult Kept(StepResult step, bool with_mean) {
  step.log_prob_B = step.log_prob_B.detach();
  step.mean_BCHW = with_mean ? MeanOf(step) : at::Tensor();
  return step;
}

EpochSteps AllSteps(int64_t num_steps) {
  EpochSteps steps{.random_begin = 0, .random_end = num_steps};
  for (int64_t k = 0; k < num_steps; ++k) steps.trained.push_back(k);
  return steps;
}

bool IsAmong(const std::vector<int64_t>& trained, int64_t k) {
  return std::binary_search(trained.begin(), trained.end(), k);
}

/// What an update needs of the trained steps.
/// @param latents  before the first executed step, and after each.
void Record(const Schedule& schedule, const EpochSteps& steps,
            const std::vector<at::Tensor>& latents, const std::vector<StepResult>& results,
            SampledTrajectories* record) {
  std::vector<int64_t> timesteps;
  std::vector<at::Tensor> log_probs, kept;
  int64_t last = -1;  // Index among `latents` of the newest that is kept.
  for (const int64_t k : steps.trained) {
    if (last != k) kept.push_back(latents[k]);
    record->latent_of_step.push_back(static_cast<int64_t>(kept.size()) - 1);
    kept.push_back(latents[k + 1]);
    last = k + 1;
    log_probs.push_back(results[k].log_prob_B);
    timesteps.push_back(schedule.timesteps[k]);
  }
  if (kept.size() == steps.trained.size() + 1) record->latent_of_step.clear();
  const int64_t b = latents.front().size(0);
  record->latents_BKCHW = at::stack(kept, 1);
  record->timesteps_BK = at::tensor(timesteps, at::kLong).unsqueeze(0).repeat({b, 1});
  record->log_probs_BK = at::stack(log_probs, 1);
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

  const EpochSteps steps = records.steps.value_or(AllSteps(num_steps));
  std::vector<at::Tensor> latents = {latents_BCHW};
  std::vector<StepResult> results;
  const bool keeps_means = records.means || records.base != nullptr;
  {
    const at::AutoGradMode with_graph(gradients != nullptr);
    StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    for (int64_t k = 0; k < num_steps; ++k) {
      const at::Tensor timesteps_B = at::full({b}, schedule.timesteps[k], at::kLong);
      const bool collects = gradients != nullptr && IsAmong(steps.trained, k);
      const at::AutoGradMode of_step(collects);
      StepResult step;
      if (steps.is_random(k)) {
        const at::Tensor noise_BCHW = inputs.step_noise(k);
        CheckShape("step_noise", noise_BCHW, {b, c, h, w});
        step = policy.Sample(latents_BCHW, timesteps_B, conditioning, MoveTo(noise_BCHW, device));
      } else {
        step = policy.SampleWithoutNoise(latents_BCHW, timesteps_B, conditioning);
      }
      if (collects) gradients->Add(step);
      latents_BCHW = step.prev_sample_BCHW;
      latents.push_back(latents_BCHW);
      results.push_back(Kept(step, keeps_means));
    }
    conditioning.text.Backward();
  }

  const at::Tensor decoded_BCHW = vae.Decode(latents_BCHW / vae.config().scaling_factor);
  SampledTrajectories result;
  Record(schedule, steps, latents, results, &result);
  result.images_BCHW = (decoded_BCHW / 2 + 0.5).clamp(0, 1);
  if (records.means) {
    std::vector<at::Tensor> means;
    for (const int64_t k : steps.trained) means.push_back(results[k].mean_BCHW);
    result.means_BKCHW = at::stack(means, 1);
  }
  if (records.base != nullptr) {
    const WithoutLora base(records.base);
    const StepConditioning conditioning = policy.Prepare(inputs.conditioning);
    std::vector<at::Tensor> base_means, kls;
    for (int64_t k = steps.random_begin; k < steps.random_end; ++k) {
      const bool is_trained = IsAmong(steps.trained, k);
      if (!is_trained && !records.base_of_all) continue;
      const at::Tensor mean_BCHW =
          MeanOf(policy.Replay(latents[k], at::full({b}, schedule.timesteps[k], at::kLong),
                               conditioning, latents[k + 1]));
      kls.push_back(
          GaussianKl(results[k].mean_BCHW, mean_BCHW, results[k].sigma_B).to(at::kDouble));
      if (is_trained) base_means.push_back(mean_BCHW);
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
