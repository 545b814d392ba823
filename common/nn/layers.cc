#include "common/nn/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/im2col.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/kernels/winograd.h"
#include "common/nn/fused_layers.h"

namespace imageddpo {
namespace {

/// Where convolutions are matrix products, see Conv2d::Forward().
constexpr int64_t kLeastProductWeights = int64_t{1} << 20;
constexpr int64_t kMostProductPositions = 256;

/// to_b += scale · left_b^T right_b for each row b of a batch whose positions follow one another in
/// left [N, F] and right [N, G]. @param to_BFG  float32, written in place.
void AddRowGradients(const at::Tensor& to_BFG, const at::Tensor& left_NF,
                     const at::Tensor& right_NG, double scale) {
  const at::NoGradGuard no_grad;
  const int64_t rows = to_BFG.size(0);
  const at::Tensor left_BLF = left_NF.to(at::kFloat).reshape({rows, -1, to_BFG.size(1)});
  const at::Tensor right_BLG = right_NG.to(at::kFloat).reshape({rows, -1, to_BFG.size(2)});
  to_BFG.baddbmm_(left_BLF.transpose(1, 2), right_BLG, /*beta=*/1, /*alpha=*/scale);
}

int64_t OutputSize(const Conv2d& conv, int64_t input) {
  return (input + 2 * conv.padding - conv.weight_OIHW.size(2)) / conv.stride + 1;
}

/// The low-rank branch of a layer over N rows and positions, float32.
struct Branch {
  at::Tensor y_NO;    ///< scale · up(down(x))
  at::Tensor low_NR;  ///< down(x)
  bool per_row = false;
};

bool HasBranch(const LoraSlot& slot) { return slot.down_RI.defined() && !slot.folded_OI.defined(); }

/// Where gradients are collected by rows, the branch's own factors get none.
bool IsPerRow(const LoraSlot& slot) {
  return slot.down_grad_BRI.defined() && c10::GradMode::is_enabled();
}

at::Tensor DownOf(const LoraSlot& slot) {
  return IsPerRow(slot) ? slot.down_RI.detach() : slot.down_RI;
}

/// down(x), float32.
at::Tensor Low(const FusedKernels* fused, const LoraSlot& slot, const at::Tensor& x_NI) {
  if (fused != nullptr && fused->TakesLoraDown(x_NI)) {
    return FusedLoraDown(*fused, x_NI, {DownOf(slot)});
  }
  return at::linear(x_NI.to(at::kFloat), DownOf(slot));
}

/// Where gradients are collected by rows, those of `down` are collected here; AddUpGradients()
/// collects those of `up`.
Branch LowRank(const LoraSlot& slot, const at::Tensor& x_NI, at::Tensor low_NR) {
  Branch branch;
  branch.per_row = IsPerRow(slot);
  const at::Tensor up_OR = branch.per_row ? slot.up_OR.detach() : slot.up_OR;
  branch.low_NR = std::move(low_NR);
  if (branch.per_row) {
    if (!branch.low_NR.requires_grad()) branch.low_NR.requires_grad_(true);
    branch.low_NR.register_hook(
        [to_BRI = slot.down_grad_BRI, x_NI = x_NI.detach()](const at::Tensor& low_grad_NR) {
          AddRowGradients(to_BRI, low_grad_NR, x_NI, 1.0);
        });
  }
  branch.y_NO = at::linear(branch.low_NR, up_OR);
  if (slot.scale != 1.0) branch.y_NO.mul_(slot.scale);
  return branch;
}

/// @param y_NO  the layer's output, or the branch's: their gradients are the same.
void AddUpGradients(const LoraSlot& slot, const Branch& branch, const at::Tensor& y_NO) {
  if (!branch.per_row) return;
  y_NO.register_hook([to_BOR = slot.up_grad_BOR, low_NR = branch.low_NR.detach(),
                      scale = slot.scale](const at::Tensor& y_grad_NO) {
    AddRowGradients(to_BOR, y_grad_NO, low_NR, scale);
  });
}

bool IsProduct(const Conv2d& conv, const at::Tensor& x_BCHW) {
  const int64_t positions =
      x_BCHW.size(0) * OutputSize(conv, x_BCHW.size(2)) * OutputSize(conv, x_BCHW.size(3));
  return x_BCHW.is_cpu() && conv.weight_OIHW.numel() >= kLeastProductWeights &&
         positions <= kMostProductPositions;
}

at::Tensor ConvolveByProduct(const Conv2d& conv, const at::Tensor& x_BCHW,
                             const at::Tensor& filters_OIHW) {
  const int64_t o = filters_OIHW.size(0), b = x_BCHW.size(0);
  // F: a patch's values, I·kernel²; N: the positions of all rows.
  const at::Tensor weight_OF = filters_OIHW.reshape({o, -1});
  const at::Tensor patches_FBL =
      at::im2col(x_BCHW, conv.weight_OIHW.sizes().slice(2), /*dilation=*/{1, 1},
                 {conv.padding, conv.padding}, {conv.stride, conv.stride})
          .transpose(0, 1);
  const at::Tensor patches_FN = patches_FBL.reshape({weight_OF.size(1), -1});
  const at::Tensor y_ON = conv.bias_O.defined()
                              ? at::addmm(conv.bias_O.unsqueeze(1), weight_OF, patches_FN)
                              : at::mm(weight_OF, patches_FN);
  return y_ON.view({o, b, OutputSize(conv, x_BCHW.size(2)), OutputSize(conv, x_BCHW.size(3))})
      .transpose(0, 1)
      .contiguous();
}

}  // namespace

ModelLoader ModelLoader::At(const std::string& name) const {
  ModelLoader child = *this;
  child.prefix_ = Path(name);
  return child;
}

ModelLoader ModelLoader::At(const std::string& name, size_t index) const {
  return At(absl::StrCat(name, ".", index));
}

std::string ModelLoader::Path(const std::string& name) const {
  return prefix_.empty() ? name : absl::StrCat(prefix_, ".", name);
}

at::Tensor ModelLoader::Take(const std::string& name, at::IntArrayRef shape) const {
  return weights_->Take(Path(name), shape);
}

void ModelLoader::AddLinear(LinearInfo info, const at::Tensor& weight,
                            const std::shared_ptr<LoraSlot>& slot) const {
  if (linears_ == nullptr) return;
  info.path = prefix_;
  linears_->push_back({std::move(info), weight.dim() == 4 ? weight.flatten(1) : weight, slot});
}

Linear Linear::Load(const ModelLoader& at, int64_t in_features, int64_t out_features, bool bias) {
  Linear linear;
  linear.weight_OI = at.Take("weight", {out_features, in_features});
  if (bias) linear.bias_O = at.Take("bias", {out_features});
  linear.lora = std::make_shared<LoraSlot>();
  linear.fused = at.fused();
  at.AddLinear({.in_features = in_features, .out_features = out_features}, linear.weight_OI,
               linear.lora);
  return linear;
}

at::Tensor Linear::Forward(const at::Tensor& x) const { return Forward(x, {}); }

at::Tensor Linear::Forward(const at::Tensor& x, at::Tensor low_NR) const {
  const LoraSlot& slot = *lora;
  if (slot.folded_OI.defined()) return at::linear(x, slot.folded_OI, bias_O);
  if (!slot.down_RI.defined()) return at::linear(x, weight_OI, bias_O);

  // N: all rows and positions. Two dimensions, so that the branch is added in place.
  const at::Tensor x_NI = x.reshape({-1, weight_OI.size(1)});
  at::Tensor y_NO = at::linear(x_NI, weight_OI, bias_O);
  if (!low_NR.defined()) low_NR = Low(fused.get(), slot, x_NI);
  Branch branch = LowRank(slot, x_NI, std::move(low_NR));
  if (y_NO.scalar_type() == at::kFloat) {
    y_NO.add_(branch.y_NO);
  } else {
    // A sum of mixed dtypes is one value at a time in libtorch.
    y_NO = branch.y_NO.add_(y_NO.to(at::kFloat)).to(y_NO.scalar_type());
  }
  AddUpGradients(slot, branch, y_NO);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight_OI.size(0);
  return y_NO.view(shape);
}

std::vector<at::Tensor> ForwardTogether(const std::vector<const Linear*>& layers,
                                        const at::Tensor& x) {
  std::vector<at::Tensor> downs, lows(layers.size()), outputs;
  if (const FusedKernels* const fused = layers.front()->fused.get(); fused != nullptr) {
    const at::Tensor x_NI = x.reshape({-1, x.size(-1)});
    for (const Linear* layer : layers) {
      if (HasBranch(*layer->lora)) downs.push_back(DownOf(*layer->lora));
    }
    if (!downs.empty() && fused->TakesLoraDown(x_NI)) {
      const at::Tensor low_NR = FusedLoraDown(*fused, x_NI, downs);
      int64_t begin = 0;
      for (size_t i = 0; i < layers.size(); ++i) {
        if (!HasBranch(*layers[i]->lora)) continue;
        const int64_t rank = layers[i]->lora->down_RI.size(0);
        lows[i] = low_NR.narrow(1, begin, rank);
        begin += rank;
      }
    }
  }
  for (size_t i = 0; i < layers.size(); ++i) outputs.push_back(layers[i]->Forward(x, lows[i]));
  return outputs;
}

Conv2d Conv2d::Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                    int64_t kernel, int64_t stride, int64_t padding) {
  Conv2d conv;
  conv.weight_OIHW = at.Take("weight", {out_channels, in_channels, kernel, kernel});
  conv.bias_O = at.Take("bias", {out_channels});
  conv.fused = at.fused();
  if (conv.fused) {
    conv.weight_OIHW = conv.weight_OIHW.contiguous(at::MemoryFormat::ChannelsLast);
  }
  conv.stride = stride;
  conv.padding = padding;
  if (kernel == 1 && stride == 1 && padding == 0) {
    conv.lora = std::make_shared<LoraSlot>();
    at.AddLinear({.in_features = in_channels, .out_features = out_channels, .is_convolution = true},
                 conv.weight_OIHW, conv.lora);
  }
  return conv;
}

at::Tensor Conv2d::Convolve(const at::Tensor& x_BCHW, const at::Tensor& filters_OIHW) const {
  const bool padded_same = stride == 1 && padding == 1;
  if (const int64_t tile = padded_same ? WinogradTile(x_BCHW, filters_OIHW) : 0; tile > 0) {
    return WinogradConvolution(x_BCHW, filters_OIHW, bias_O, tile);
  }
  if (IsProduct(*this, x_BCHW)) return ConvolveByProduct(*this, x_BCHW, filters_OIHW);
  return at::conv2d(x_BCHW, filters_OIHW, bias_O, {stride, stride},
                    at::IntArrayRef{padding, padding});
}

at::Tensor Conv2d::Forward(const at::Tensor& x_BCHW) const {
  if (lora && lora->folded_OI.defined()) {
    return Convolve(x_BCHW, lora->folded_OI.view(weight_OIHW.sizes()));
  }
  at::Tensor y_BOHW = Convolve(x_BCHW, weight_OIHW);
  if (!lora || !lora->down_RI.defined()) return y_BOHW;

  // N: the pixels of all rows, one row after the other.
  const int64_t batch = x_BCHW.size(0), height = x_BCHW.size(2), width = x_BCHW.size(3);
  const at::Tensor x_NI = x_BCHW.permute({0, 2, 3, 1}).reshape({-1, x_BCHW.size(1)});
  const Branch branch = LowRank(*lora, x_NI, Low(fused.get(), *lora, x_NI));
  AddUpGradients(*lora, branch, branch.y_NO);
  const at::Tensor branch_BOHW =
      branch.y_NO.view({batch, height, width, weight_OIHW.size(0)}).permute({0, 3, 1, 2});
  if (y_BOHW.scalar_type() == at::kFloat) return y_BOHW.add_(branch_BOHW);
  return y_BOHW.to(at::kFloat).add_(branch_BOHW).to(y_BOHW.scalar_type());
}

GroupNorm GroupNorm::Load(const ModelLoader& at, int64_t channels, int64_t groups, double eps) {
  return {.weight_C = at.Take("weight", {channels}),
          .bias_C = at.Take("bias", {channels}),
          .groups = groups,
          .eps = eps,
          .fused = at.fused()};
}

at::Tensor GroupNorm::Forward(const at::Tensor& x) const {
  if (fused && fused->TakesGroupNorm(x, groups)) return FusedGroupNorm(*this, x, /*silu=*/false);
  return at::group_norm(x, groups, weight_C, bias_C, eps);
}

at::Tensor GroupNorm::ForwardActivated(const at::Tensor& x, Activation act) const {
  if (act == Activation::kSilu && fused && fused->TakesGroupNorm(x, groups)) {
    return FusedGroupNorm(*this, x, /*silu=*/true);
  }
  return Activate(act, Forward(x));
}

LayerNorm LayerNorm::Load(const ModelLoader& at, int64_t channels, double eps) {
  return {
      .weight_C = at.Take("weight", {channels}), .bias_C = at.Take("bias", {channels}), .eps = eps};
}

at::Tensor LayerNorm::Forward(const at::Tensor& x) const {
  return at::layer_norm(x, {weight_C.size(0)}, weight_C, bias_C, eps);
}

Embedding Embedding::Load(const ModelLoader& at, int64_t entries, int64_t channels) {
  return {.weight_VC = at.Take("weight", {entries, channels})};
}

at::Tensor Embedding::Forward(const at::Tensor& ids) const { return at::embedding(weight_VC, ids); }

}  // namespace imageddpo
