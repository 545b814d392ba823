#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/diffusion/unet_config.h"
#include "common/diffusion/vae.h"

namespace imageddpo {

/// The low-rank branches that an update trains.
struct LoraShape {
  int64_t rank = 0;                         ///< 0: none.
  std::vector<std::string> target_modules;  ///< Last parts of paths, as in LoraConfig.
};

/// Floating-point operations of one row of a batch: a multiplication and an addition count as two.
/// Convolutions, linear layers and attention count; norms, activations and sums do not (below 1%
/// together).
struct UnetFlops {
  double forward = 0;
  /// To the gradients of the LoRA alone: frozen weights need none, and what comes before the first
  /// branch and what makes the time and text embeddings is not reached.
  double backward = 0;
};

/// @param height, width  latent pixels.
/// @param tokens         of the text.
UnetFlops CountUnetFlops(const UnetConfig& config, int64_t height, int64_t width, int64_t tokens,
                         const LoraShape& lora);

/// Of one image.
/// @param height, width  latent pixels.
double CountVaeDecodeFlops(const VaeConfig& config, int64_t height, int64_t width);

}  // namespace imageddpo
