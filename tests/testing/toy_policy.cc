#include "tests/testing/toy_policy.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <stdexcept>

#include "common/diffusion/keyed_noise.h"

namespace imageddpo {
namespace {

Linear MakeLinear(uint64_t number, int64_t in_features, int64_t out_features) {
  Linear linear;
  linear.weight_OI = KeyedNormal({.seed = 11, .sample = number}, {out_features, in_features})
                         .div_(std::sqrt(static_cast<double>(in_features)));
  linear.lora = std::make_shared<LoraSlot>();
  return linear;
}

NamedLinear Named(const char* path, const Linear& linear) {
  return {{.path = path,
           .in_features = linear.weight_OI.size(1),
           .out_features = linear.weight_OI.size(0)},
          linear.weight_OI,
          linear.lora};
}

}  // namespace

struct ToyDenoiser::Layers {
  Linear pixels, scale, shift;
};

ToyDenoiser::ToyDenoiser(const Layers& layers)
    : Denoiser({Named("toy.pixels", layers.pixels), Named("toy.scale", layers.scale),
                Named("toy.shift", layers.shift)},
               ModelOptions()),
      pixels_(layers.pixels),
      scale_(layers.scale),
      shift_(layers.shift) {}

std::unique_ptr<ToyDenoiser> ToyDenoiser::Make(int64_t channels, int64_t text_width) {
  const Layers layers = {.pixels = MakeLinear(0, channels, channels),
                         .scale = MakeLinear(1, text_width, channels),
                         .shift = MakeLinear(2, text_width, channels)};
  return std::unique_ptr<ToyDenoiser>(new ToyDenoiser(layers));
}

ProjectedText ToyDenoiser::ProjectText(const at::Tensor& context_BLD) const {
  const at::Tensor mean_B1D = context_BLD.mean(1, /*keepdim=*/true).contiguous();
  ProjectedText text;
  text.Add({.key_RSD = scale_.Forward(mean_B1D), .value_RSD = shift_.Forward(mean_B1D)});
  return text;
}

at::Tensor ToyDenoiser::Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                                const ProjectedText& text) const {
  const at::Tensor time_B = timesteps_B.to(at::kFloat) / 1000;
  const at::Tensor x_BHWC =
      (latents_BCHW + time_B.view({-1, 1, 1, 1})).permute({0, 2, 3, 1}).contiguous();
  const KeysValues from_text = text[0];  // [B,1,C] each.
  const at::Tensor y_BHWC = pixels_.Forward(x_BHWC) * (1 + from_text.key_RSD.unsqueeze(1)) +
                            from_text.value_RSD.unsqueeze(1);
  return y_BHWC.permute({0, 3, 1, 2});
}

Lora ToyLora(const Denoiser& denoiser) {
  uint64_t number = 0;
  const auto normal = [&number](at::IntArrayRef shape) {
    return KeyedNormal({.seed = 12, .purpose = StreamPurpose::kLoraInit, .sample = number++},
                       shape);
  };
  const LoraConfig config{.rank = 2, .alpha = 2, .target_modules = {"pixels", "scale", "shift"}};
  absl::StatusOr<Lora> lora =
      Lora::Create(denoiser.linears(), config,
                   [&](const std::string&, at::IntArrayRef shape) { return normal(shape); });
  if (!lora.ok()) throw std::runtime_error(lora.status().ToString());
  const at::NoGradGuard no_grad;
  for (const Lora::Module& module : lora->modules()) {
    module.up_OR.copy_(normal(module.up_OR.sizes()).mul_(0.1));
  }
  return *std::move(lora);
}

absl::StatusOr<Schedule> GaussianWalk::MakeSchedule(int64_t num_steps,
                                                    double noise_strength) const {
  if (num_steps < 1 || num_steps > num_train_timesteps() || !(noise_strength > 0)) {
    return absl::InvalidArgumentError("there is no step to take");
  }
  Schedule schedule{.num_steps = num_steps};
  schedule.start_index =
      static_cast<int64_t>(static_cast<double>(num_steps) * (1 - noise_strength));
  for (int64_t i = schedule.start_index; i < num_steps; ++i) {
    schedule.timesteps.push_back(num_train_timesteps() * (num_steps - i) / num_steps - 1);
  }
  return schedule;
}

absl::Status GaussianWalk::CheckRunnable(const Schedule& /*schedule*/, double eta) const {
  return eta >= 0 ? absl::OkStatus() : absl::InvalidArgumentError("eta is negative");
}

absl::Status GaussianWalk::CheckEta(const Schedule& /*schedule*/, double eta) const {
  return eta > 0 ? absl::OkStatus() : absl::InvalidArgumentError("no step is random");
}

at::Tensor GaussianWalk::AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                                  const at::Tensor& timesteps_B) const {
  return x0_BCHW + (timesteps_B.to(at::kFloat) / 1000).view({-1, 1, 1, 1}) * noise_BCHW;
}

at::Tensor GaussianWalk::PredictionTarget(const at::Tensor& /*x0_BCHW*/,
                                          const at::Tensor& noise_BCHW,
                                          const at::Tensor& /*timesteps_B*/) const {
  return noise_BCHW;
}

StepResult GaussianWalk::Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                              const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                              const at::Tensor& noise_BCHW,
                              const at::Tensor& prev_sample_BCHW) const {
  const double sigma = eta / static_cast<double>(num_steps);
  StepResult result;
  result.mean_BCHW =
      sample_BCHW.contiguous() - model_output_BCHW.contiguous() / static_cast<double>(num_steps);
  result.sigma_B = at::full({timesteps_B.size(0)}, sigma, sample_BCHW.options());
  result.stochastic_B = result.sigma_B > 0;
  result.prev_sample_BCHW =
      (noise_BCHW.defined() ? result.mean_BCHW + sigma * noise_BCHW : prev_sample_BCHW.contiguous())
          .detach();
  if (sigma == 0) {
    result.log_prob_B = at::zeros_like(result.sigma_B);
    return result;
  }
  const at::Tensor log_density_BCHW =
      -(result.prev_sample_BCHW - result.mean_BCHW).pow(2) / (2 * sigma * sigma) - std::log(sigma) -
      0.5 * std::log(2 * M_PI);
  result.log_prob_B = log_density_BCHW.mean(at::IntArrayRef({1, 2, 3}));
  return result;
}

}  // namespace imageddpo
