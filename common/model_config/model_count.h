#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/picture_size.h"
#include "common/model_config/text_encoder_config.h"
#include "common/model_config/unet_config.h"
#include "common/model_config/vae_config.h"

namespace imageddpo {

/// What one pass of one sample through a network costs, counted from its configuration alone. A
/// multiplication and an addition are two operations. Convolutions, linear layers and attention are
/// counted; norms, activations and sums are not (below 1% together).
struct PassCount {
  double flops = 0;       ///< Forward, without adapters.
  double lora_flops = 0;  ///< Of the adapters, in addition to flops.
  /// Backward pass to the gradients of the adapters alone. Frozen weights need no gradients, and
  /// layers before the first adapter and those of the time and text embeddings are not reached. 0
  /// without adapters.
  double backward_flops = 0;
  double parameters = 0;       ///< Exact: values in the model's files.
  double lora_parameters = 0;  ///< Exact: the adapters' values.
  double saved_values = 0;     ///< Outputs of all layers: about what autograd saves.
  /// The same with gradient checkpointing: the inputs of the UNet's layers, and the outputs of one.
  double recomputed_values = 0;
  /// Inputs of the layers with adapters, of which a replay in half precision keeps float32 copies;
  /// and the same with gradient checkpointing.
  double adapter_inputs = 0, recomputed_adapter_inputs = 0;
  double live_values = 0;  ///< About the most values alive at once in a pass without gradients.
};

/// Counts of one model folder at one image size.
struct ModelCount {
  PassCount unet;     ///< One row of the UNet's batch: one sample, one branch of the guidance.
  PassCount encoder;  ///< VAE, image to posterior.
  PassCount decoder;  ///< VAE, latents to image.
  PassCount text;     ///< One prompt.
  PictureSize image, latent;
  int64_t latent_channels = 0;
  int64_t context_tokens = 0, context_width = 0;

  double latent_values() const {  ///< Of one sample.
    return static_cast<double>(latent_channels * latent.area());
  }
  double image_values() const { return 3.0 * static_cast<double>(image.area()); }
};

/// The linear layers of a UNet, by the ends of their paths.
inline constexpr const char* kAdapterKinds[] = {"to_q",          "to_k",     "to_v",    "to_out.0",
                                                "net.0.proj",    "net.2",    "proj_in", "proj_out",
                                                "time_emb_proj", "linear_1", "linear_2"};

/// Which linear layers of the UNet have adapters.
struct AdapterTargets {
  int64_t rank = 4;  ///< 0: none.
  /// Last components of the layers' paths, as in LoraConfig.
  std::vector<std::string> modules = {"to_q", "to_k", "to_v", "to_out.0"};
};

/// @param latent  size of the latents.
/// @param tokens  length of the text context.
PassCount CountUnet(const UnetConfig& config, PictureSize latent, int64_t tokens,
                    const AdapterTargets& targets);
PassCount CountVaeEncoder(const VaeConfig& config, PictureSize image);
PassCount CountVaeDecoder(const VaeConfig& config, PictureSize image);
PassCount CountTextEncoder(const TextEncoderConfig& config, int64_t tokens);

/// Reads the configurations of a model folder in diffusers' layout; no weights.
/// @param image  size of the images; not given: the model's own.
/// @return NOT_FOUND or INVALID_ARGUMENT naming the file, the field or the setting.
absl::StatusOr<ModelCount> CountModel(const std::string& dir, PictureSize image,
                                      const AdapterTargets& targets);

}  // namespace imageddpo
