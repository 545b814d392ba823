#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/lora/denoiser.h"
#include "common/model_config/unet_config.h"
#include "common/nn/model_options.h"

namespace imageddpo {

/// The noise predictor of the SD 1.x / 2.x family (diffusers' UNet2DConditionModel).
class Unet final : public Denoiser {
 public:
  /// Reads `dir`/config.json and the weights beside it.
  /// @param warnings  as of its config; may be null.
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<Unet>> Load(const std::string& dir,
                                                    const ModelOptions& options,
                                                    std::vector<std::string>* warnings = nullptr);
  ~Unet() override;

  const UnetConfig& config() const;

  /// The keys and values that the attention layers take from the text.
  /// @param context_BLD   float32 [B, L, cross_attention_dim].
  ProjectedText ProjectText(const at::Tensor& context_BLD) const override;

  using Denoiser::Forward;
  at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const ProjectedText& text) const override;

 private:
  struct Impl;
  Unet(std::unique_ptr<Impl> impl, std::vector<NamedLinear> linears, const ModelOptions& options);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imageddpo
