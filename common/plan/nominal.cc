#include "common/plan/nominal.h"

namespace imageddpo {
namespace {

/// Operations a second of a rank: two cores of a CPU in float32, or an H200 in bfloat16, to one
/// digit of what docs/benchmarks and docs/planning.md measured.
constexpr double kFlopsOfCpu = 1e11;
constexpr double kFlopsOfGpu = 1e14;
/// Of a CPU's core, on either kind of rank.
constexpr double kNoiseValuesPerSecond = 1e8;
constexpr double kRewardValuesPerSecond = 1e8;  // Of images, as a JPEG encoder.
constexpr double kHashedValuesPerSecond = 1e8;  // Of a LoRA: SHA-256.
constexpr double kOptimizerValuesPerSecond = 2e8;
constexpr double kCopiedBytesPerSecond = 5e9;
/// Of the link between GPUs. That between CPUs is what LinkCosts assumes.
constexpr double kGpuLinkBytesPerSecond = 1e10;

/// Stable Diffusion 1.5 at 512 pixels with LoRAs of rank 4 on attention.
ModelCount TypicalModel() {
  ModelCount model;
  model.unet = {.flops = 7e11,
                .lora_flops = 1e10,
                .backward_flops = 7e11,
                .parameters = 8.6e8,
                .lora_parameters = 8e5};
  model.encoder = {.flops = 1e12, .parameters = 3.4e7};
  model.decoder = {.flops = 2.5e12, .parameters = 5e7};
  model.text = {.flops = 1e10, .parameters = 1.2e8};
  model.image = {512, 512};
  model.latent = {64, 64};
  model.latent_channels = 4;
  model.context_tokens = 77;
  model.context_width = 768;
  return model;
}

CostCurve At(double work, double seconds) { return CostCurve({{work, seconds}}); }

}  // namespace

PlanInputs NominalInputs(const std::optional<ModelCount>& model, bool on_gpus,
                         double memory_bytes) {
  PlanInputs inputs;
  inputs.model = model.value_or(TypicalModel());
  inputs.memory_bytes = model.has_value() ? memory_bytes : 0;
  const double flops = on_gpus ? kFlopsOfGpu : kFlopsOfCpu;
  const PassCount& unet = inputs.model.unet;
  const double forward = unet.flops + unet.lora_flops;
  Costs& costs = inputs.costs;
  costs.sample_step = At(unet.flops, forward / flops);
  costs.gradient_step = costs.replay_step = At(unet.flops, (forward + unet.backward_flops) / flops);
  costs.encode = At(flops, 1);
  costs.decode = At(flops, 1);
  costs.text = At(flops, 1);
  costs.draw = At(kNoiseValuesPerSecond, 1);
  costs.reward = At(kRewardValuesPerSecond, 1);
  costs.optimizer = At(kOptimizerValuesPerSecond, 1);
  costs.bind = At(kHashedValuesPerSecond, 1);
  costs.copy = At(kCopiedBytesPerSecond, 1);
  if (on_gpus) costs.link.bytes_per_second = kGpuLinkBytesPerSecond;
  return inputs;
}

}  // namespace imageddpo
