#include "common/nn/resnet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <vector>

namespace imageddpo {

ResnetBlock ResnetBlock::Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                              const ResnetOptions& options) {
  ResnetBlock block;
  block.norm1 = GroupNorm::Load(at.At("norm1"), in_channels, options.norm_groups, options.norm_eps);
  block.conv1 = Conv2d::Load(at.At("conv1"), in_channels, out_channels, 3, 1, 1);
  if (options.time_dim > 0)
    block.time_emb_proj = Linear::Load(at.At("time_emb_proj"), options.time_dim, out_channels);
  block.norm2 =
      GroupNorm::Load(at.At("norm2"), out_channels, options.norm_groups, options.norm_eps);
  block.conv2 = Conv2d::Load(at.At("conv2"), out_channels, out_channels, 3, 1, 1);
  if (in_channels != out_channels)
    block.conv_shortcut = Conv2d::Load(at.At("conv_shortcut"), in_channels, out_channels, 1);
  block.act = options.act;
  block.output_scale_factor = options.output_scale_factor;
  return block;
}

at::Tensor ResnetBlock::Forward(const at::Tensor& x_BCHW, const at::Tensor& time_BT) const {
  at::Tensor y = conv1.Forward(norm1.ForwardActivated(x_BCHW, act));
  if (time_emb_proj)
    y.add_(time_emb_proj->Forward(Activate(act, time_BT)).unsqueeze(-1).unsqueeze(-1));
  y = conv2.Forward(norm2.ForwardActivated(y, act));
  y = (conv_shortcut ? conv_shortcut->Forward(x_BCHW) : x_BCHW) + y;
  return output_scale_factor == 1.0 ? y : y / output_scale_factor;
}

Downsample Downsample::Load(const ModelLoader& at, int64_t channels, int64_t padding) {
  return {.conv = Conv2d::Load(at.At("conv"), channels, channels, 3, 2, padding)};
}

at::Tensor Downsample::Forward(const at::Tensor& x_BCHW) const {
  if (conv.padding > 0) return conv.Forward(x_BCHW);
  return conv.Forward(at::constant_pad_nd(x_BCHW, {0, 1, 0, 1}, 0));
}

Upsample Upsample::Load(const ModelLoader& at, int64_t channels) {
  return {.conv = Conv2d::Load(at.At("conv"), channels, channels, 3, 1, 1)};
}

at::Tensor Upsample::Forward(const at::Tensor& x_BCHW,
                             std::optional<at::IntArrayRef> size_HW) const {
  const std::vector<int64_t> size =
      size_HW ? size_HW->vec() : std::vector<int64_t>{2 * x_BCHW.size(2), 2 * x_BCHW.size(3)};
  return conv.Forward(at::upsample_nearest2d(x_BCHW, size));
}

}  // namespace imageddpo
