#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/unet_config.h"
#include "common/nn/model_options.h"
#include "common/nn/projected_text.h"

namespace imageddpo {

class Lora;

/// The noise predictor of the SD 1.x / 2.x family (diffusers' UNet2DConditionModel), frozen, with
/// an optional LoRA on its linear layers. Forward() may run in several threads at once; BindLora()
/// and UnbindLora() may not overlap with anything.
///
/// Shape letters: B batch, C latent channels, H W latent height and width, L tokens, D text width.
class Unet {
 public:
  /// Reads `dir`/config.json and the weights beside it.
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<Unet>> Load(const std::string& dir,
                                                    const ModelOptions& options);
  ~Unet();

  const UnetConfig& config() const;

  /// The text as the attention layers read it under the LoRA that is bound, recorded as Forward()
  /// is. To be made anew where the LoRA's values or the LoRA change.
  /// @param context_BLD   float32 [B, L, cross_attention_dim].
  ProjectedText ProjectText(const at::Tensor& context_BLD) const;

  /// Records an autograd graph where grad mode is on and a bound LoRA requires gradients; the
  /// model's own weights never do.
  /// @param latents_BCHW  float32 [B, in_channels, H, W].
  /// @param timesteps_B   int64 [B].
  /// @param text          of B rows.
  /// @return              float32 [B, out_channels, H, W].
  /// @throws c10::Error   on shapes that do not fit.
  at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const ProjectedText& text) const;
  /// The same, for one step of a text.
  at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const at::Tensor& context_BLD) const {
    return Forward(latents_BCHW, timesteps_B, ProjectText(context_BLD));
  }

  /// Attaches every module of `lora` to the layer of its path, in place of whatever was bound
  /// before. The tensors are shared: values written into them in place count from the next
  /// Forward() on.
  /// @return the number of modules bound, or INVALID_ARGUMENT naming the modules without a layer,
  /// in
  ///         which case nothing has changed.
  absl::StatusOr<int> BindLora(const Lora& lora);
  void UnbindLora();  ///< Back to the base model.

  /// Until UnfoldLora(), passes use float32 copies of the weights with the bound LoRA added to
  /// them, instead of the low-rank branches. Without gradients of the LoRA. The results are rounded
  /// differently, so never use it where trajectories are sampled or trained. Does nothing in other
  /// precisions, whose weights would round small updates away.
  void FoldLora();
  void UnfoldLora();

  /// Until ReleaseRowGradients(), a backward pass adds the gradients of each row of the batch to
  /// that row of `gradients`, and leaves the LoRA's own gradients alone. Passes with gradients must
  /// have B rows.
  /// @param lora       the one that is bound.
  /// @param gradients  for each of Lora::Parameters(), contiguous float32 [B, its shape] on its
  ///                   device.
  /// @throws std::invalid_argument  wrong shape or dtype; a LoRA that is not bound.
  void CaptureRowGradients(const Lora& lora, const std::vector<at::Tensor>& gradients);
  void ReleaseRowGradients();

  /// Every linear layer, sorted by path.
  std::vector<LinearInfo> linears() const;

 private:
  struct Impl;
  explicit Unet(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imageddpo
