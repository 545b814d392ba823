#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/nn/activation.h"
#include "common/nn/model_options.h"
#include "common/nn/weight_map.h"

namespace imageddpo {

// The layers every model here is made of: plain structs of frozen weights, built from a
// ModelLoader, with a const Forward(). Shape letters: B batch, L positions, I O in and out
// features, C channels, H W height and width.

/// The low-rank branch of one linear layer; shared between the layer and whoever binds it.
/// Undefined tensors: no branch.
struct LoraSlot {
  at::Tensor down_RI;  ///< float32 [rank, in_features]
  at::Tensor up_OR;    ///< float32 [out_features, rank]
  double scale = 1.0;

  /// If defined, a backward pass adds the gradients of each row of the batch to these, and none to
  /// the gradients of the two factors above. float32, written in place.
  at::Tensor down_grad_BRI;
  at::Tensor up_grad_BOR;

  /// If defined, used instead of the layer's weight and the branch: weight + scale · up down.
  at::Tensor folded_OI;
};

/// One linear layer of the model, with its path.
struct NamedLinear {
  LinearInfo info;
  at::Tensor weight_OI;  ///< Shared with the layer.
  std::shared_ptr<LoraSlot> slot;
};

/// A position in a model and in its weights file, such as "down_blocks.0.resnets.1", from which the
/// next layer is loaded. Copyable; all copies of one root share the weights and the list of linear
/// layers.
class ModelLoader {
 public:
  /// @param weights, linears  must outlive the loader; `linears` may be null.
  ModelLoader(WeightMap* weights, std::vector<NamedLinear>* linears)
      : weights_(weights), linears_(linears) {}

  ModelLoader At(const std::string& name) const;
  ModelLoader At(const std::string& name, size_t index) const;

  at::Tensor Take(const std::string& name, at::IntArrayRef shape) const;
  /// The path of `name` below this place: "down_blocks.0.resnets.1.conv1.weight".
  std::string Path(const std::string& name) const;
  WeightMap& weights() const { return *weights_; }
  /// Of the model; null where libtorch's operators are used.
  std::shared_ptr<const FusedKernels> fused() const { return weights_->options().fused; }
  /// Lists `info` as the linear layer at this place.
  /// @param weight  [O, I] or, of a 1×1 convolution, [O, I, 1, 1]; of any shape if the file lacks
  ///                it, which WeightMap::Finish() reports.
  void AddLinear(LinearInfo info, const at::Tensor& weight,
                 const std::shared_ptr<LoraSlot>& slot) const;

 private:
  WeightMap* weights_;
  std::vector<NamedLinear>* linears_;
  std::string prefix_;
};

/// y = x W^T + b, plus scale · up(down(x)) where a LoRA is bound, that branch in float32 whatever
/// the layer's dtype.
struct Linear {
  at::Tensor weight_OI;
  at::Tensor bias_O;  ///< Undefined without a bias.
  std::shared_ptr<LoraSlot> lora;
  std::shared_ptr<const FusedKernels> fused;

  static Linear Load(const ModelLoader& at, int64_t in_features, int64_t out_features,
                     bool bias = true);
  at::Tensor Forward(const at::Tensor& x) const;  ///< [..., I] to [..., O]

 private:
  friend std::vector<at::Tensor> ForwardTogether(const std::vector<const Linear*>& layers,
                                                 const at::Tensor& x);
  /// @param low_NR  down(x) of the layer's LoRA; undefined: not computed yet.
  at::Tensor Forward(const at::Tensor& x, at::Tensor low_NR) const;
};

/// The outputs of layers that read the same x, in their order, as Forward() would give them. Where
/// kernels of our own are used, the down-projections of all their LoRAs are one product.
std::vector<at::Tensor> ForwardTogether(const std::vector<const Linear*>& layers,
                                        const at::Tensor& x);

/// A convolution. One of 1×1 is a linear layer of each pixel's channels, and takes a LoRA as Linear
/// does.
struct Conv2d {
  at::Tensor weight_OIHW;
  at::Tensor bias_O;
  int64_t stride = 1;
  int64_t padding = 0;
  std::shared_ptr<LoraSlot> lora;  ///< Null where the filters are larger than 1×1.
  std::shared_ptr<const FusedKernels> fused;

  static Conv2d Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                     int64_t kernel, int64_t stride = 1, int64_t padding = 0);
  /// Chooses between three ways to compute it. On a CPU oneDNN reorders the weights in every call;
  /// with many weights and few positions, as in Stable Diffusion's inner levels, that takes longer
  /// than the convolution, and it is computed as one matrix product of the weights, as they are
  /// stored, with the patches of the input. 3×3 filters with many channels and many positions go
  /// through WinogradConvolution(). All others are libtorch's. See docs/kernels.md.
  at::Tensor Forward(const at::Tensor& x_BCHW) const;

 private:
  at::Tensor Convolve(const at::Tensor& x_BCHW, const at::Tensor& filters_OIHW) const;
};

struct GroupNorm {
  at::Tensor weight_C;
  at::Tensor bias_C;
  int64_t groups = 32;
  double eps = 1e-5;
  std::shared_ptr<const FusedKernels> fused;

  static GroupNorm Load(const ModelLoader& at, int64_t channels, int64_t groups, double eps);
  at::Tensor Forward(const at::Tensor& x) const;                           ///< [B, C, ...]
  at::Tensor ForwardActivated(const at::Tensor& x, Activation act) const;  ///< act(Forward(x))
};

struct LayerNorm {
  at::Tensor weight_C;
  at::Tensor bias_C;
  double eps = 1e-5;

  static LayerNorm Load(const ModelLoader& at, int64_t channels, double eps);
  at::Tensor Forward(const at::Tensor& x) const;  ///< [..., C]
};

struct Embedding {
  at::Tensor weight_VC;

  static Embedding Load(const ModelLoader& at, int64_t entries, int64_t channels);
  at::Tensor Forward(const at::Tensor& ids) const;  ///< int64 [...] to [..., C]
};

}  // namespace imageddpo
