#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/vae_config.h"
#include "common/nn/model_options.h"

namespace imageddpo {

/// The image autoencoder (diffusers' AutoencoderKL), frozen. Encode() and Decode() may run in
/// several threads at once.
///
/// Shape letters: B batch, C channels, H W height and width.
class Vae {
 public:
  /// @param warnings  as of its config; may be null.
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<Vae>> Load(const std::string& dir,
                                                   const ModelOptions& options,
                                                   std::vector<std::string>* warnings = nullptr);
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
