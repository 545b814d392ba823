#include "common/diffusion/ddim_scheduler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/cumprod.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_plan.h"
#include "common/device/copies.h"

// Shapes: B samples, C channels, H and W of the latents, T training timesteps.
// alpha_t is abar_t, the cumulative product; sigma the deviation of the step's noise.

namespace imageddpo {
namespace {

constexpr double kMinVariance = 1e-20;       ///< Below: the step is deterministic.
constexpr double kDirectionRounding = 1e-6;  ///< How far float32 may push an exact 0 below it.
constexpr double kLogSqrtTwoPi = 0.91893853320467274178;

at::Tensor CosineBetas(int64_t num_timesteps) {
  // Nichol and Dhariwal, arXiv:2102.09672: abar(t) = cos²((t + 0.008)/1.008 · pi/2), betas capped.
  constexpr double kPi = 3.14159265358979323846;
  constexpr double kMaxBeta = 0.999;
  const auto alpha_bar = [](double t) {
    return std::pow(std::cos((t + 0.008) / 1.008 * kPi / 2), 2);
  };
  std::vector<float> betas;
  const double n = static_cast<double>(num_timesteps);
  for (int64_t i = 0; i < num_timesteps; ++i) {
    const double ratio =
        alpha_bar(static_cast<double>(i + 1) / n) / alpha_bar(static_cast<double>(i) / n);
    betas.push_back(static_cast<float>(std::min(1.0 - ratio, kMaxBeta)));
  }
  return at::tensor(betas, at::kFloat);
}

at::Tensor Betas(const DdimConfig& config) {
  const int64_t T = config.num_train_timesteps;
  if (!config.trained_betas.empty())
    return at::tensor(config.trained_betas, at::kDouble).to(at::kFloat);
  if (config.beta_schedule == "linear")
    return at::linspace(config.beta_start, config.beta_end, T, at::kFloat);
  if (config.beta_schedule == "squaredcos_cap_v2") return CosineBetas(T);
  return at::linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end), T, at::kFloat)
      .pow(2);
}

/// Shifts and scales sqrt(abar) so that its last value is 0 and its first unchanged (Lin et al.,
/// arXiv:2305.08891, algorithm 1).
at::Tensor RescaleToZeroSnr(const at::Tensor& betas_T) {
  const at::Tensor root_T = at::cumprod(1.0 - betas_T, 0).sqrt();
  const at::Tensor first = root_T[0];
  const at::Tensor last = root_T[-1];
  const at::Tensor shifted_T = (root_T - last) * (first / (first - last));
  const at::Tensor alpha_bar_T = shifted_T.pow(2);
  const int64_t T = betas_T.size(0);
  const at::Tensor alphas_T =
      at::cat({alpha_bar_T.narrow(0, 0, 1),
               alpha_bar_T.narrow(0, 1, T - 1) / alpha_bar_T.narrow(0, 0, T - 1)});
  return 1.0 - alphas_T;
}

/// All timesteps of a schedule, descending, as NumPy computes them.
std::vector<int64_t> FullTimesteps(const DdimConfig& config, int64_t num_steps) {
  const int64_t T = config.num_train_timesteps;
  std::vector<int64_t> timesteps(static_cast<size_t>(num_steps));
  for (int64_t i = 0; i < num_steps; ++i) {
    int64_t& timestep = timesteps[i];
    const int64_t ascending = num_steps - 1 - i;
    switch (config.timestep_spacing) {
      case TimestepSpacing::kLeading:
        timestep = ascending * (T / num_steps) + config.steps_offset;
        break;
      case TimestepSpacing::kTrailing: {
        const double end = static_cast<double>(T);
        const double delta = (end - end / static_cast<double>(num_steps)) - end;
        timestep = static_cast<int64_t>(std::nearbyint(end + static_cast<double>(i) * delta)) - 1;
        break;
      }
      case TimestepSpacing::kLinspace: {
        const double last = static_cast<double>(T - 1);
        const double step = num_steps > 1 ? last / static_cast<double>(num_steps - 1) : 0.0;
        const double position = ascending == num_steps - 1 && num_steps > 1
                                    ? last
                                    : static_cast<double>(ascending) * step;
        timestep = static_cast<int64_t>(std::nearbyint(position));
        break;
      }
    }
  }
  return timesteps;
}

at::Tensor Spread(const at::Tensor& x_B) { return x_B.view({-1, 1, 1, 1}); }  ///< [B] to [B,1,1,1].

void CheckStep(const at::Tensor& model_output, const at::Tensor& timesteps,
               const at::Tensor& sample, int64_t num_steps, int64_t num_train_timesteps,
               const at::Tensor& noise, const at::Tensor& prev_sample) {
  const auto fail = [](const std::string& what) {
    throw std::invalid_argument("DdimScheduler::Step: " + what);
  };
  if (noise.defined() == prev_sample.defined())
    fail("give either noise or the recorded next sample");
  if (sample.dim() != 4) fail("the sample must be [B,C,H,W]");
  if (model_output.sizes() != sample.sizes()) fail("model output and sample differ in shape");
  const at::Tensor& other = noise.defined() ? noise : prev_sample;
  if (other.sizes() != sample.sizes()) fail("noise or next sample and sample differ in shape");
  if (timesteps.dim() != 1 || timesteps.size(0) != sample.size(0))
    fail("one timestep per sample is needed");
  if (!timesteps.is_cpu()) fail("the timesteps must be on the CPU");
  if (num_steps < 1 || num_steps > num_train_timesteps)
    fail("num_steps is " + std::to_string(num_steps));
}

}  // namespace

DdimScheduler::DdimScheduler(DdimConfig config) : config_(std::move(config)) {
  if (absl::Status status = config_.Validate(); !status.ok()) {
    throw std::invalid_argument("DdimScheduler: " + std::string(status.message()));
  }
  at::Tensor betas_T = Betas(config_);
  if (config_.rescale_betas_zero_snr) betas_T = RescaleToZeroSnr(betas_T);
  alphas_cumprod_T_ = at::cumprod(1.0 - betas_T, 0).contiguous();
  final_alpha_ =
      config_.set_alpha_to_one ? at::scalar_tensor(1.0, at::kFloat) : alphas_cumprod_T_[0].clone();
}

absl::StatusOr<Schedule> DdimScheduler::MakeSchedule(int64_t num_steps,
                                                     double noise_strength) const {
  const int64_t T = config_.num_train_timesteps;
  if (num_steps < 1 || num_steps > T) {
    return absl::InvalidArgumentError(absl::StrCat("num_steps is ", num_steps,
                                                   ", it must be between 1 and the model's ", T,
                                                   " training timesteps"));
  }
  if (!(noise_strength >= 0.0 && noise_strength <= 1.0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("noise_strength is ", noise_strength, ", it must be between 0 and 1"));
  }
  Schedule schedule;
  schedule.num_steps = num_steps;
  schedule.start_index = FirstExecutedStep(num_steps, noise_strength);
  const std::vector<int64_t> all = FullTimesteps(config_, num_steps);
  schedule.timesteps.assign(all.begin() + schedule.start_index, all.end());

  const float* alphas = alphas_cumprod_T_.const_data_ptr<float>();
  for (int64_t timestep : schedule.timesteps) {
    if (timestep < 0 || timestep >= T) {
      return absl::InvalidArgumentError(
          absl::StrCat("timestep ", timestep, " lies outside the model's ", T,
                       " training timesteps; use fewer num_steps (", num_steps,
                       ") or a smaller steps_offset (", config_.steps_offset, ")"));
    }
    if (alphas[timestep] == 0.0F && config_.prediction_type == PredictionType::kEpsilon) {
      return absl::InvalidArgumentError(absl::StrCat(
          "at timestep ", timestep,
          " nothing is left of the image (rescale_betas_zero_snr), so that ",
          "prediction_type epsilon cannot recover it; use a v_prediction model, another ",
          "timestep_spacing or a smaller noise_strength"));
    }
  }
  return schedule;
}

absl::Status DdimScheduler::CheckRunnable(const Schedule& schedule, double eta) const {
  if (!(eta >= 0.0) || !std::isfinite(eta)) {
    return absl::InvalidArgumentError(
        absl::StrCat("eta is ", eta, ", it must be a number of at least 0"));
  }
  const Coefficients step = GatherSchedule(schedule);
  const size_t num_steps = schedule.timesteps.size();
  for (size_t k = 0; k < num_steps; ++k) {
    const auto index = static_cast<int64_t>(k);
    const double variance = step.variance_B[index].item<double>();
    if (variance < kMinVariance) continue;
    const double direction = 1.0 - step.alpha_prev_B[index].item<double>() - eta * eta * variance;
    if (direction >= -kDirectionRounding) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("eta is ", eta, ", too large for step ", k, " of ", num_steps, " (timestep ",
                     schedule.timesteps[k], "): 1 - abar_prev - sigma² is ", direction,
                     " there; use an eta of at most 1"));
  }
  return absl::OkStatus();
}

absl::Status DdimScheduler::CheckEta(const Schedule& schedule, double eta) const {
  IMAGEDDPO_RETURN_IF_ERROR(CheckRunnable(schedule, eta));
  const at::Tensor stochastic_K = GatherSchedule(schedule).variance_B >= kMinVariance;
  if (eta > 0.0 && stochastic_K.any().item<bool>()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("with eta ", eta, ", none of the ", schedule.timesteps.size(),
                   " steps is random, so that there is nothing to learn from; use eta above 0",
                   eta > 0.0 ? " and a larger noise_strength" : ""));
}

at::Tensor DdimScheduler::AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                                   const at::Tensor& timesteps_B) const {
  const at::Device device = x0_BCHW.device();
  const at::Tensor alpha_B = alphas_cumprod_T_.index_select(0, timesteps_B);
  const at::Tensor root_alpha_B = MoveTo(alpha_B.sqrt(), device);
  const at::Tensor root_beta_B = MoveTo((1.0 - alpha_B).sqrt(), device);
  return Spread(root_alpha_B) * x0_BCHW + Spread(root_beta_B) * noise_BCHW;
}

at::Tensor DdimScheduler::PredictionTarget(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                                           const at::Tensor& timesteps_B) const {
  switch (config_.prediction_type) {
    case PredictionType::kEpsilon:
      return noise_BCHW;
    case PredictionType::kSample:
      return x0_BCHW;
    case PredictionType::kVPrediction:
      break;
  }
  const at::Device device = x0_BCHW.device();
  const at::Tensor alpha_B = alphas_cumprod_T_.index_select(0, timesteps_B);
  const at::Tensor root_alpha_B = MoveTo(alpha_B.sqrt(), device);
  const at::Tensor root_beta_B = MoveTo((1.0 - alpha_B).sqrt(), device);
  return Spread(root_alpha_B) * noise_BCHW - Spread(root_beta_B) * x0_BCHW;
}

DdimScheduler::Coefficients DdimScheduler::Gather(const at::Tensor& timesteps_B,
                                                  int64_t num_steps) const {
  const at::Tensor prev_B = timesteps_B - config_.num_train_timesteps / num_steps;
  Coefficients step;
  step.alpha_t_B = alphas_cumprod_T_.index_select(0, timesteps_B);
  step.alpha_prev_B =
      at::where(prev_B >= 0, alphas_cumprod_T_.index_select(0, prev_B.clamp_min(0)), final_alpha_);
  step.variance_B = ((1.0 - step.alpha_prev_B) / (1.0 - step.alpha_t_B)) *
                    (1.0 - step.alpha_t_B / step.alpha_prev_B);
  return step;
}

DdimScheduler::Coefficients DdimScheduler::GatherSchedule(const Schedule& schedule) const {
  return Gather(at::tensor(schedule.timesteps, at::kLong), schedule.num_steps);
}

DdimScheduler::Factors DdimScheduler::FactorsOf(const at::Tensor& timesteps_B, int64_t num_steps,
                                                double eta) const {
  const Coefficients step = Gather(timesteps_B, num_steps);
  const at::Tensor is_random_B =
      eta > 0.0 ? step.variance_B >= kMinVariance : at::zeros_like(timesteps_B, at::kBool);
  const at::Tensor sigma_B =
      at::where(is_random_B, eta * step.variance_B.clamp_min(kMinVariance).sqrt(),
                at::zeros_like(step.variance_B));
  return {.root_alpha_B = step.alpha_t_B.sqrt(),
          .root_beta_B = (1.0 - step.alpha_t_B).sqrt(),
          .root_alpha_prev_B = step.alpha_prev_B.sqrt(),
          // Exactly 0 at eta 1 where abar_prev is 0; rounding must not make it the root of a
          // negative number.
          .direction_B = (1.0 - step.alpha_prev_B - sigma_B.pow(2)).clamp_min(0.0).sqrt(),
          .sigma_B = sigma_B,
          // Where deterministic, a deviation of 1 keeps the unused branch finite, so that its
          // gradient is 0 and not NaN.
          .safe_sigma_B = at::where(is_random_B, sigma_B, at::ones_like(sigma_B)),
          .is_random_B = is_random_B};
}

DdimScheduler::Factors DdimScheduler::Factors::On(at::Device device) const {
  if (sigma_B.device() == device) return *this;
  const at::Tensor rows =
      MoveTo(at::stack({root_alpha_B, root_beta_B, root_alpha_prev_B, direction_B, sigma_B,
                        safe_sigma_B, is_random_B.to(at::kFloat)}),
             device);
  return {.root_alpha_B = rows.select(0, 0),
          .root_beta_B = rows.select(0, 1),
          .root_alpha_prev_B = rows.select(0, 2),
          .direction_B = rows.select(0, 3),
          .sigma_B = rows.select(0, 4),
          .safe_sigma_B = rows.select(0, 5),
          .is_random_B = rows.select(0, 6) > 0};
}

at::Tensor DdimScheduler::ClipPredicted(const at::Tensor& x0_BCHW) const {
  if (config_.thresholding) {
    const at::Tensor flat_BN = x0_BCHW.reshape({x0_BCHW.size(0), -1});
    const at::Tensor bound_B1 = at::quantile(flat_BN.abs(), config_.dynamic_thresholding_ratio, 1)
                                    .clamp(1.0, config_.sample_max_value)
                                    .unsqueeze(1);
    return (at::clamp(flat_BN, -bound_B1, bound_B1) / bound_B1).reshape(x0_BCHW.sizes());
  }
  if (config_.clip_sample)
    return x0_BCHW.clamp(-config_.clip_sample_range, config_.clip_sample_range);
  return x0_BCHW;
}

StepResult DdimScheduler::Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                               const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                               const at::Tensor& noise_BCHW,
                               const at::Tensor& prev_sample_BCHW) const {
  CheckStep(model_output_BCHW, timesteps_B, sample_BCHW, num_steps, config_.num_train_timesteps,
            noise_BCHW, prev_sample_BCHW);
  // The order of a sum follows the memory layout, and that must not tell a replay from its rollout.
  const at::Tensor output_BCHW = model_output_BCHW.to(at::kFloat).contiguous();
  const at::Tensor latents_BCHW = sample_BCHW.contiguous();
  StepResult result;
  const Factors on_host = FactorsOf(timesteps_B, num_steps, eta);
  result.stochastic_B = on_host.is_random_B;
  const Factors step = on_host.On(latents_BCHW.device());
  const at::Tensor root_alpha = Spread(step.root_alpha_B), root_beta = Spread(step.root_beta_B);

  // x_0 and the noise as the model sees them.
  at::Tensor x0_BCHW;
  at::Tensor epsilon_BCHW;
  switch (config_.prediction_type) {
    case PredictionType::kEpsilon:
      x0_BCHW = (latents_BCHW - root_beta * output_BCHW) / root_alpha;
      epsilon_BCHW = output_BCHW;
      break;
    case PredictionType::kSample:
      x0_BCHW = output_BCHW;
      epsilon_BCHW = (latents_BCHW - root_alpha * x0_BCHW) / root_beta;
      break;
    case PredictionType::kVPrediction:
      x0_BCHW = root_alpha * latents_BCHW - root_beta * output_BCHW;
      epsilon_BCHW = root_alpha * output_BCHW + root_beta * latents_BCHW;
      break;
  }
  x0_BCHW = ClipPredicted(x0_BCHW);

  const at::Tensor mean_BCHW =
      Spread(step.root_alpha_prev_B) * x0_BCHW + Spread(step.direction_B) * epsilon_BCHW;

  const at::Tensor prev_BCHW = noise_BCHW.defined()
                                   ? mean_BCHW + Spread(step.sigma_B) * noise_BCHW.contiguous()
                                   : prev_sample_BCHW.contiguous();
  result.prev_sample_BCHW = prev_BCHW.detach();
  result.mean_BCHW = mean_BCHW;
  result.sigma_B = step.sigma_B;

  const at::Tensor safe_sigma = Spread(step.safe_sigma_B);
  const at::Tensor log_prob_BCHW =
      -(result.prev_sample_BCHW - mean_BCHW).pow(2) / (2.0 * safe_sigma.pow(2)) - safe_sigma.log() -
      kLogSqrtTwoPi;
  const at::Tensor log_prob_B = log_prob_BCHW.mean(at::IntArrayRef({1, 2, 3}));
  result.log_prob_B = at::where(step.is_random_B, log_prob_B, at::zeros_like(step.sigma_B));
  return result;
}

}  // namespace imageddpo
