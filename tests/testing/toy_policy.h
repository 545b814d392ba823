#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "common/diffusion/step_rule.h"
#include "common/lora/denoiser.h"

namespace imageddpo {

/// The smallest denoiser with a text: the channels of each latent pixel go through one linear
/// layer, and the text's average token scales and shifts the result through two others. Their
/// paths are toy.pixels, toy.scale and toy.shift.
class ToyDenoiser final : public Denoiser {
 public:
  /// All that are made of the same sizes have the same weights.
  static std::unique_ptr<ToyDenoiser> Make(int64_t channels, int64_t text_width);

  ProjectedText ProjectText(const at::Tensor& context_BLD) const override;
  using Denoiser::Forward;
  at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const ProjectedText& text) const override;

 private:
  struct Layers;
  explicit ToyDenoiser(const Layers& layers);

  Linear pixels_, scale_, shift_;
};

/// A LoRA of all three layers that does something, on the CPU; not bound.
Lora ToyLora(const Denoiser& denoiser);

/// The smallest step rule: next ~ N(latents - prediction/T, (eta/T)²), with T the number of steps.
class GaussianWalk final : public StepRule {
 public:
  int64_t num_train_timesteps() const override { return 1000; }
  absl::StatusOr<Schedule> MakeSchedule(int64_t num_steps, double noise_strength) const override;
  absl::Status CheckRunnable(const Schedule& schedule, double eta) const override;
  absl::Status CheckEta(const Schedule& schedule, double eta) const override;
  /// Latents + t/1000 · noise.
  at::Tensor AddNoise(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                      const at::Tensor& timesteps_B) const override;
  /// The noise.
  at::Tensor PredictionTarget(const at::Tensor& x0_BCHW, const at::Tensor& noise_BCHW,
                              const at::Tensor& timesteps_B) const override;
  StepResult Step(const at::Tensor& model_output_BCHW, const at::Tensor& timesteps_B,
                  const at::Tensor& sample_BCHW, int64_t num_steps, double eta,
                  const at::Tensor& noise_BCHW, const at::Tensor& prev_sample_BCHW) const override;
};

}  // namespace imageddpo
