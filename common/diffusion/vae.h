#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/diffusion/activation.h"
#include "common/diffusion/model_options.h"

namespace imageddpo {

/// A diffusers AutoencoderKL's config.json, checked.
struct VaeConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels;
  int64_t layers_per_block = 1;
  int64_t norm_num_groups = 32;
  Activation act = Activation::kSilu;
  int64_t sample_size = 0;  ///< Pixels; informative.
  double scaling_factor = 0.18215;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  /// Pixels per latent pixel, each way.
  int64_t downscale() const { return int64_t{1} << (block_out_channels.size() - 1); }

  /// @return INVALID_ARGUMENT naming the file, the field, its value and what is supported.
  static absl::StatusOr<VaeConfig> Load(const std::string& config_json);
};

/// The image autoencoder (diffusers' AutoencoderKL), frozen. Encode() and Decode() may run in
/// several threads at once.
///
/// Shape letters: B batch, C channels, H W height and width.
class Vae {
 public:
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<Vae>> Load(const std::string& dir,
                                                   const ModelOptions& options);
  ~Vae();

  const VaeConfig& config() const;

  /// The latent's normal distribution, float32 [B, latent_channels, H/downscale, W/downscale] each,
  /// before multiplication by the scaling factor.
  struct Posterior {
    at::Tensor mean_BCHW;
    at::Tensor std_BCHW;
  };
  /// @param images_BCHW  float32 [B, in_channels, H, W] in [-1, 1]; H and W multiples of
  /// downscale().
  /// @throws c10::Error  on shapes that do not fit.
  Posterior Encode(const at::Tensor& images_BCHW) const;

  /// Frees the weights that only Encode() needs; afterwards it throws std::logic_error. May not
  /// overlap with anything.
  void ReleaseEncoder();

  /// @param latents_BCHW  float32 [B, latent_channels, h, w], already divided by the scaling
  /// factor.
  /// @return              float32 [B, out_channels, h*downscale, w*downscale], about [-1, 1], not
  /// clamped.
  /// @throws c10::Error   on shapes that do not fit.
  at::Tensor Decode(const at::Tensor& latents_BCHW) const;

 private:
  struct Impl;
  explicit Vae(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imageddpo
