#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/lora/lora.h"
#include "common/nn/layers.h"
#include "common/nn/model_options.h"
#include "common/nn/projected_text.h"

namespace imageddpo {

/// The network of a policy, frozen, with an optional LoRA on its linear layers: from noisy latents,
/// their timesteps and a text to a prediction, which a step rule turns into the next latents. A
/// model's family implements the two virtual functions; what a LoRA needs is done here, in the
/// slots of its layers. Forward() may run in several threads at once; the functions that change
/// the slots may not overlap with anything.
///
/// Shape letters: B batch, C latent channels, H W latent height and width, L tokens, D text width.
class Denoiser {
 public:
  virtual ~Denoiser() = default;
  Denoiser(const Denoiser&) = delete;
  Denoiser& operator=(const Denoiser&) = delete;

  /// What all steps of a micro-batch share: whatever depends on the text and the LoRA alone,
  /// recorded as Forward() is. To be made anew where the LoRA's values or the LoRA change.
  /// @param context_BLD  float32.
  virtual ProjectedText ProjectText(const at::Tensor& context_BLD) const = 0;

  /// Records an autograd graph where grad mode is on and a bound LoRA requires gradients; the
  /// model's own weights never do. The same arguments give the same bits.
  /// @param latents_BCHW  float32.
  /// @param timesteps_B   int64.
  /// @param text          of B rows.
  /// @return              float32 [B,C,H,W].
  /// @throws c10::Error   on shapes that do not fit.
  virtual at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                             const ProjectedText& text) const = 0;
  /// The same, for one step of a text.
  at::Tensor Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                     const at::Tensor& context_BLD) const {
    return Forward(latents_BCHW, timesteps_B, ProjectText(context_BLD));
  }

  /// Every linear layer, sorted by path.
  std::vector<LinearInfo> linears() const;

  /// Attaches every module of `lora` to the layer of its path, in place of whatever was bound
  /// before. The tensors are shared: values written into them in place count from the next
  /// Forward() on.
  /// @return the number of modules bound, or INVALID_ARGUMENT naming the modules without a layer,
  ///         in which case nothing has changed.
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

 protected:
  /// @param linears  all that a LoRA may be attached to. @param options  device and dtype of the
  /// weights.
  Denoiser(std::vector<NamedLinear> linears, const ModelOptions& options);

  const ModelOptions& options() const { return options_; }
  /// Whether a backward pass through a forward pass made now reaches a LoRA.
  bool NeedsGraph() const;

 private:
  friend class WithoutLora;

  std::vector<NamedLinear> linears_;  ///< Sorted by path.
  ModelOptions options_;
};

/// While one exists, its denoiser is the base model; then everything that was in the layers' slots
/// is there again: the LoRA, folded or not, and where row gradients go. Backward passes that need
/// the LoRA must have ended, since they may run a layer once more.
class WithoutLora {
 public:
  explicit WithoutLora(Denoiser* denoiser);  ///< It outlives this.
  ~WithoutLora();
  WithoutLora(const WithoutLora&) = delete;
  WithoutLora& operator=(const WithoutLora&) = delete;

 private:
  Denoiser* denoiser_;
  std::vector<LoraSlot> slots_;  ///< In the order of the denoiser's layers.
};

}  // namespace imageddpo
