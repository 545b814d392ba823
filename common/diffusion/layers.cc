#include "common/diffusion/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>

#include "absl/strings/str_cat.h"

namespace imageddpo {

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

void ModelLoader::AddLinear(int64_t in_features, int64_t out_features,
                            const std::shared_ptr<LoraSlot>& slot) const {
  if (linears_ == nullptr) return;
  linears_->push_back(
      {{.path = prefix_, .in_features = in_features, .out_features = out_features}, slot});
}

Linear Linear::Load(const ModelLoader& at, int64_t in_features, int64_t out_features, bool bias) {
  Linear linear;
  linear.weight_OI = at.Take("weight", {out_features, in_features});
  if (bias) linear.bias_O = at.Take("bias", {out_features});
  linear.lora = std::make_shared<LoraSlot>();
  at.AddLinear(in_features, out_features, linear.lora);
  return linear;
}

at::Tensor Linear::Forward(const at::Tensor& x) const {
  at::Tensor y = at::linear(x, weight_OI, bias_O);
  if (!lora->down_RI.defined()) return y;
  const at::Tensor low_rank = at::linear(x.to(lora->down_RI.scalar_type()), lora->down_RI);
  return (y + at::linear(low_rank, lora->up_OR) * lora->scale).to(y.scalar_type());
}

Conv2d Conv2d::Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                    int64_t kernel, int64_t stride, int64_t padding) {
  Conv2d conv;
  conv.weight_OIHW = at.Take("weight", {out_channels, in_channels, kernel, kernel});
  conv.bias_O = at.Take("bias", {out_channels});
  conv.stride = stride;
  conv.padding = padding;
  return conv;
}

at::Tensor Conv2d::Forward(const at::Tensor& x_BCHW) const {
  return at::conv2d(x_BCHW, weight_OIHW, bias_O, {stride, stride},
                    at::IntArrayRef{padding, padding});
}

GroupNorm GroupNorm::Load(const ModelLoader& at, int64_t channels, int64_t groups, double eps) {
  return {.weight_C = at.Take("weight", {channels}),
          .bias_C = at.Take("bias", {channels}),
          .groups = groups,
          .eps = eps};
}

at::Tensor GroupNorm::Forward(const at::Tensor& x) const {
  return at::group_norm(x, groups, weight_C, bias_C, eps);
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
