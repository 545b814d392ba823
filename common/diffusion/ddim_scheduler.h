#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// What the UNet's output stands for.
enum class PredictionType { kEpsilon, kSample, kVPrediction };

/// How the executed timesteps are placed on the training schedule.
enum class TimestepSpacing { kLeading, kTrailing, kLinspace };

/// A field of scheduler_config.json that has no meaning for DDIM.
struct IgnoredField {
  std::string name;
  std::string reason;
};

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
  std::vector<IgnoredField>
      ignored_fields;  ///< What a file of another scheduler class said beyond these.

  /// InvalidArgument naming the field and the values it may have.
  absl::Status Validate() const;
};

/// Reads `scheduler_dir`/scheduler_config.json. Files of the other discrete schedulers that Stable
/// Diffusion folders ship with (PNDM, DDPM, Euler, LMS, Heun, DPM-Solver, UniPC …) describe the
/// same noise schedule and are read as DDIM: shared fields are taken, absent ones have DDIM's
/// defaults, fields of the other solver alone are listed in ignored_fields.
/// Errors: NotFound (no file), InvalidArgument (not JSON, wrong type), Unimplemented (another
/// family of schedulers, an unknown field or value); each names the file and the field.
absl::StatusOr<DdimConfig> LoadDdimConfig(const std::string& scheduler_dir);

/// The executed part of a schedule.
struct Schedule {
  std::vector<int64_t> timesteps;  ///< The K executed ones, descending.
  int64_t start_index = 0;         ///< Index of timesteps[0] in the full schedule.
  int64_t num_steps =
      0;  ///< Steps of the full schedule, as asked for; K = num_steps - start_index.
};

/// DDIM (Song, Meng, Ermon, "Denoising diffusion implicit models", arXiv:2010.02502, formulas 12
/// and 16) with the log-probability of each step, as denoising diffusion policy optimisation needs
/// it (Black et al., arXiv:2305.13301). Immutable after construction, so that threads may share
/// one. All arithmetic is float32.
class DdimScheduler {
 public:
  /// @throws std::invalid_argument  config.Validate() fails.
  explicit DdimScheduler(DdimConfig config);

  const DdimConfig& config() const { return config_; }
  /// abar_t = prod_{s<=t} (1 - beta_s): float32 [num_train_timesteps] on the CPU.
  const at::Tensor& alphas_cumprod() const { return alphas_cumprod_T_; }

  /// The steps that are run for a noise strength, from FirstExecutedStep on. InvalidArgument:
  /// num_steps outside [1, num_train_timesteps]; noise_strength outside [0, 1]; a timestep outside
  /// the training schedule (steps_offset); epsilon prediction at a timestep without signal (zero
  /// terminal SNR).
  absl::StatusOr<Schedule> MakeSchedule(int64_t num_steps, double noise_strength) const;

  /// Refuses an eta that cannot be trained with: negative or not finite; no stochastic step in the
  /// whole trajectory; the direction term 1 - abar_prev - sigma² negative at some step, which is
  /// named. InvalidArgument.
  absl::Status CheckEta(const Schedule& schedule, double eta) const;
  /// The same without the demand for a stochastic step: what can be run, though not learned from.
  absl::Status CheckDirection(const Schedule& schedule, double eta) const;

  /// sqrt(abar_t)·x0 + sqrt(1 - abar_t)·noise.
  /// @param x0_BCHW, noise_BCHW  float32, same shape and device.
  /// @param timesteps_B          int64.
  at::Tensor AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                      const at::Tensor& timesteps_B) const;

  struct StepResult {
    at::Tensor prev_sample_BCHW;  ///< float32; the given one in a replay.
    at::Tensor log_prob_B;        ///< float32; mean over C,H,W of log N(prev; mean,
                                  ///< (eta·sqrt(variance))²), 0 where deterministic.
    at::Tensor stochastic_B;      ///< bool; false: eta is 0 or the variance is below 1e-20.
  };

  /// One step from `timesteps_B` to the timestep before it. Exactly one of `noise_BCHW` (sampling)
  /// and `prev_sample_BCHW` (replay of a recorded step) is defined. Sampling and replay of what it
  /// gave have bit-equal log-probs. Deterministic steps are judged per sample: log-prob 0 without
  /// gradient, noise unused. Gradients flow from log_prob_B into model_output_BCHW; the recorded
  /// sample is a constant.
  /// @param model_output_BCHW  float32 (other floating types are widened), the UNet's (guided)
  /// output.
  /// @param timesteps_B        int64, each in [0, num_train_timesteps).
  /// @param sample_BCHW        float32, the latents that went into the UNet.
  /// @param num_steps          of the full schedule (Schedule::num_steps).
  /// @throws std::invalid_argument  neither or both of noise and prev_sample given; shapes differ;
  /// num_steps out of range.
  StepResult Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                  const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                  const at::Tensor& noise_BCHW, const at::Tensor& prev_sample_BCHW) const;

 private:
  /// Constants of one step, each [B].
  struct Coefficients {
    at::Tensor alpha_t_B, alpha_prev_B, variance_B;
  };
  Coefficients Gather(const at::Tensor& timesteps_B, int64_t num_steps) const;
  Coefficients GatherSchedule(const Schedule& schedule) const;  ///< B is the executed steps.
  at::Tensor ClipPredicted(const at::Tensor& x0_BCHW) const;

  DdimConfig config_;
  at::Tensor alphas_cumprod_T_;
  at::Tensor final_alpha_cumprod_;  ///< 0-d: abar before timestep 0.
};

}  // namespace imageddpo
