#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// The executed part of a schedule.
struct Schedule {
  std::vector<int64_t> timesteps;  ///< The K executed ones, descending.
  int64_t start_index = 0;         ///< Index of timesteps[0] in the full schedule.
  int64_t num_steps =
      0;  ///< Steps of the full schedule, as asked for; K = num_steps - start_index.
};

/// A step of B samples. A Gaussian step draws next ~ N(mean, σ²), and its log-probability is the
/// mean over C, H and W of the logarithm of that density.
struct StepResult {
  at::Tensor prev_sample_BCHW;  ///< float32, no graph; the given one in a replay.
  at::Tensor log_prob_B;        ///< float32, with graph; 0 where deterministic.
  at::Tensor stochastic_B;      ///< bool, on the CPU; false where the step draws nothing.
  /// Of a Gaussian step, float32; else undefined. The mean has a graph, σ is 0 where deterministic.
  at::Tensor mean_BCHW, sigma_B;
};

/// How a prediction turns latents into those of the next step, with the log-probability of that
/// step: what denoising diffusion policy optimisation (Black et al., arXiv:2305.13301) needs of a
/// sampler. Immutable after construction, so that threads may share one. All arithmetic is float32.
///
/// Shapes: B samples, C H W latents.
class StepRule {
 public:
  virtual ~StepRule() = default;

  /// Timesteps lie in [0, num_train_timesteps).
  virtual int64_t num_train_timesteps() const = 0;

  /// The steps that are run for a noise strength. INVALID_ARGUMENT: num_steps or noise_strength is
  /// out of range, or a step cannot be computed.
  virtual absl::StatusOr<Schedule> MakeSchedule(int64_t num_steps, double noise_strength) const = 0;

  /// Whether the schedule can be run with this eta, the scale of a step's noise. INVALID_ARGUMENT
  /// naming the step where it cannot.
  virtual absl::Status CheckRunnable(const Schedule& schedule, double eta) const = 0;
  /// CheckRunnable(), and at least one step must be stochastic: without one there is nothing to
  /// learn from.
  virtual absl::Status CheckEta(const Schedule& schedule, double eta) const = 0;

  /// Adds noise to x0 up to the given timesteps.
  /// @param x0_BCHW, noise_BCHW  float32, same shape and device.
  /// @param timesteps_B          int64, on the CPU.
  virtual at::Tensor AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                              const at::Tensor& timesteps_B) const = 0;

  /// What the denoiser should predict of AddNoise(x0, noise, timesteps): the target of its
  /// pretraining. Arguments as there. float32.
  virtual at::Tensor PredictionTarget(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                                      const at::Tensor& timesteps_B) const = 0;

  /// One step from `timesteps_B` to the timestep before it. Exactly one of `noise_BCHW` (sampling)
  /// and `prev_sample_BCHW` (replay of a recorded step) is defined. Sampling a step and replaying
  /// its result give bit-equal log-probs. Whether a step is deterministic is decided per sample:
  /// then its log-prob is 0 without gradient, and its noise is unused. Gradients flow from
  /// log_prob_B into model_output_BCHW; the recorded sample is a constant.
  /// @param model_output_BCHW  float32 (other floating types are widened), the (guided) prediction.
  /// @param timesteps_B        int64, each in [0, num_train_timesteps). On the CPU, so that the
  /// host
  ///                           knows what a step draws without waiting for a device.
  /// @param sample_BCHW        float32, the latents that the prediction was made from.
  /// @param num_steps          of the full schedule (Schedule::num_steps).
  /// @throws std::invalid_argument  neither or both of noise and prev_sample given; shapes differ;
  /// num_steps out of range; timesteps on a device.
  virtual StepResult Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                          const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                          const at::Tensor& noise_BCHW,
                          const at::Tensor& prev_sample_BCHW) const = 0;
};

}  // namespace imageddpo
