#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/diffusion/step_rule.h"

namespace imageddpo {

/// What the UNet's output stands for.
enum class PredictionType { kEpsilon, kSample, kVPrediction };

/// How the executed timesteps are placed on the training schedule.
enum class TimestepSpacing { kLeading, kTrailing, kLinspace };

/// The fields of a diffusers DDIM scheduler_config.json, with DDIM's own defaults.
struct DdimConfig {
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.0001;
  double beta_end = 0.02;
  std::string beta_schedule = "linear";  ///< linear, scaled_linear or squaredcos_cap_v2.
  std::vector<double> trained_betas;     ///< Where not empty, used instead of the schedule.
  bool set_alpha_to_one = true;  ///< abar before the first timestep: 1, or abar of timestep 0.
  int64_t steps_offset = 0;      ///< Added to the timesteps of leading spacing.
  PredictionType prediction_type = PredictionType::kEpsilon;
  bool thresholding =
      false;  ///< Dynamic thresholding of the predicted x_0; takes precedence over clip_sample.
  double dynamic_thresholding_ratio = 0.995;
  double sample_max_value = 1.0;
  bool clip_sample = true;
  double clip_sample_range = 1.0;
  TimestepSpacing timestep_spacing = TimestepSpacing::kLeading;
  bool rescale_betas_zero_snr = false;

  /// InvalidArgument naming the field and the values it may have.
  absl::Status Validate() const;
};

/// Reads `scheduler_dir`/scheduler_config.json. Files of the other discrete schedulers that Stable
/// Diffusion folders ship with (PNDM, DDPM, Euler, LMS, Heun, DPM-Solver, UniPC …) describe the
/// same noise schedule and are read as DDIM: shared fields are taken, absent ones have DDIM's
/// defaults, except steps_offset and clip_sample, which become 1 and false as in diffusers' Stable
/// Diffusion pipelines.
/// @param warnings  gets, one line each: which of those two the file leaves out; that it clips, or
///                  has another offset; which fields of another solver say nothing here.
/// Errors: NotFound (no file), InvalidArgument (not JSON, wrong type), Unimplemented (another
/// family of schedulers, an unknown field or value); each names the file and the field.
absl::StatusOr<DdimConfig> LoadDdimConfig(const std::string& scheduler_dir,
                                          std::vector<std::string>* warnings = nullptr);

/// DDIM (Song, Meng, Ermon, "Denoising diffusion implicit models", arXiv:2010.02502, formulas 12
/// and 16) with the log-probability of each step; a step is Gaussian with σ = eta·sqrt(variance),
/// and deterministic where eta is 0 or the variance is below 1e-20.
class DdimScheduler final : public StepRule {
 public:
  /// @throws std::invalid_argument  config.Validate() fails.
  explicit DdimScheduler(DdimConfig config);

  const DdimConfig& config() const { return config_; }
  /// abar_t = prod_{s<=t} (1 - beta_s): float32 [num_train_timesteps] on the CPU.
  const at::Tensor& alphas_cumprod() const { return alphas_cumprod_T_; }

  int64_t num_train_timesteps() const override { return config_.num_train_timesteps; }

  /// From FirstExecutedStep on. InvalidArgument: num_steps outside [1, num_train_timesteps];
  /// noise_strength outside [0, 1]; a timestep outside the training schedule (steps_offset);
  /// epsilon prediction at a timestep without signal (zero terminal SNR).
  absl::StatusOr<Schedule> MakeSchedule(int64_t num_steps, double noise_strength) const override;

  /// Refuses an eta that is negative or not finite, and one with which the direction term
  /// 1 - abar_prev - sigma² is negative at some step.
  absl::Status CheckRunnable(const Schedule& schedule, double eta) const override;
  absl::Status CheckEta(const Schedule& schedule, double eta) const override;

  /// sqrt(abar_t)·x0 + sqrt(1 - abar_t)·noise.
  at::Tensor AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                      const at::Tensor& timesteps_B) const override;

  /// By prediction_type: the noise; x0; or sqrt(abar_t)·noise - sqrt(1 - abar_t)·x0 (Salimans and
  /// Ho, arXiv:2202.00512, appendix D).
  at::Tensor PredictionTarget(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                              const at::Tensor& timesteps_B) const override;

  StepResult Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                  const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                  const at::Tensor& noise_BCHW, const at::Tensor& prev_sample_BCHW) const override;

 private:
  /// Constants of one step, each [B] float32, on the CPU.
  struct Coefficients {
    at::Tensor alpha_t_B, alpha_prev_B, variance_B;
  };
  Coefficients Gather(const at::Tensor& timesteps_B, int64_t num_steps) const;
  Coefficients GatherSchedule(const Schedule& schedule) const;  ///< B is the executed steps.
  /// What a step multiplies by and divides by, each [B] float32; is_random_B is bool.
  struct Factors {
    at::Tensor root_alpha_B, root_beta_B, root_alpha_prev_B, direction_B, sigma_B, safe_sigma_B,
        is_random_B;
    /// On `device`: in one copy, for which the host does not wait.
    Factors On(at::Device device) const;
  };
  /// On the CPU.
  Factors FactorsOf(const at::Tensor& timesteps_B, int64_t num_steps, double eta) const;
  at::Tensor ClipPredicted(const at::Tensor& x0_BCHW) const;

  DdimConfig config_;
  at::Tensor alphas_cumprod_T_;
  at::Tensor final_alpha_;  ///< 0-d: the abar before timestep 0.
};

}  // namespace imageddpo
