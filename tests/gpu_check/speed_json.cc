#include "tests/gpu_check/speed.h"

namespace imageddpo {

nlohmann::json ToJson(const SpeedOptions& options, const SpeedResult& result) {
  const auto memory = [](const DeviceMemory& of) {
    return nlohmann::json{{"peak_allocated_bytes", of.peak_allocated_bytes},
                          {"peak_reserved_bytes", of.peak_reserved_bytes}};
  };
  const PassCount& unet = result.count.unet;
  return {{"precision", options.precision},
          {"update", options.update},
          {"guidance_scale", options.guidance_scale},
          {"resolution", options.resolution},
          {"num_steps", options.num_steps},
          {"fused_kernels", options.fused_kernels},
          {"executed_steps", result.num_steps},
          {"batch_size", options.batch_size},
          {"samples_per_epoch", options.samples_per_epoch},
          {"first_epoch_seconds", result.first_epoch_seconds},
          {"epoch_seconds", result.epoch_seconds},
          {"sample_seconds", result.sample_seconds},
          {"draw_seconds", result.draw_seconds},
          {"encode_seconds", result.encode_seconds},
          {"forward_seconds", result.forward_seconds},
          {"forward_backward_seconds", result.forward_backward_seconds},
          {"model_flops", result.model_flops},
          {"product_flops", result.product_flops},
          {"count",
           {{"forward", unet.flops + unet.lora_flops},
            {"backward", unet.backward_flops},
            {"encode", result.count.encoder.flops},
            {"decode", result.count.decoder.flops}}},
          {"memory", memory(result.memory)},
          {"predicted_bytes", result.predicted_bytes},
          {"load_memory", memory(result.load_memory)},
          {"gradient_norm", result.gradient_norm},
          {"ratio_max_error", result.ratio_max_error}};
}

nlohmann::json ToJson(const RepeatResult& result) {
  return {{"samples", result.samples},
          {"gradients", result.gradients},
          {"ratio_max_error", result.ratio_max_error}};
}

}  // namespace imageddpo
