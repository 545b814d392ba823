#include "common/diffusion/unet_blocks.h"

#include <ATen/ops/cat.h>

#include <utility>

namespace imageddpo {
namespace {

Transformer2d LoadTransformer(const ModelLoader& at, const UnetBlockOptions& options,
                              size_t layer) {
  Transformer2d::Options transformer = options.transformer;
  transformer.layers = options.transformer_layers[layer];
  return Transformer2d::Load(at.At("attentions", layer), transformer);
}

}  // namespace

DownBlock DownBlock::Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                          int64_t layers, std::optional<int64_t> downsample_padding,
                          const UnetBlockOptions& options) {
  DownBlock block;
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t channels = i == 0 ? in_channels : out_channels;
    block.resnets.push_back(
        ResnetBlock::Load(at.At("resnets", i), channels, out_channels, options.resnet));
    if (!options.transformer_layers.empty())
      block.attentions.push_back(LoadTransformer(at, options, i));
  }
  if (downsample_padding)
    block.downsample = Downsample::Load(at.At("downsamplers.0"), out_channels, *downsample_padding);
  return block;
}

at::Tensor DownBlock::Forward(at::Tensor x_BCHW, const UnetContext& context,
                              std::vector<at::Tensor>& skips) const {
  for (size_t i = 0; i < resnets.size(); ++i) {
    x_BCHW = resnets[i].Forward(x_BCHW, context.time_BT);
    if (!attentions.empty()) x_BCHW = attentions[i].Forward(x_BCHW, *context.text);
    skips.push_back(x_BCHW);
  }
  if (downsample) {
    x_BCHW = downsample->Forward(x_BCHW);
    skips.push_back(x_BCHW);
  }
  return x_BCHW;
}

MidBlock MidBlock::Load(const ModelLoader& at, int64_t channels, const UnetBlockOptions& options) {
  MidBlock block;
  block.resnet0 = ResnetBlock::Load(at.At("resnets.0"), channels, channels, options.resnet);
  block.attention = LoadTransformer(at, options, 0);
  block.resnet1 = ResnetBlock::Load(at.At("resnets.1"), channels, channels, options.resnet);
  return block;
}

at::Tensor MidBlock::Forward(const at::Tensor& x_BCHW, const UnetContext& context) const {
  const at::Tensor y = attention.Forward(resnet0.Forward(x_BCHW, context.time_BT), *context.text);
  return resnet1.Forward(y, context.time_BT);
}

UpBlock UpBlock::Load(const ModelLoader& at, int64_t previous_channels, int64_t out_channels,
                      int64_t skip_channels, int64_t layers, bool upsample,
                      const UnetBlockOptions& options) {
  UpBlock block;
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t from_below = i == 0 ? previous_channels : out_channels;
    const int64_t from_skip = i == layers - 1 ? skip_channels : out_channels;
    block.resnets.push_back(ResnetBlock::Load(at.At("resnets", i), from_below + from_skip,
                                              out_channels, options.resnet));
    if (!options.transformer_layers.empty())
      block.attentions.push_back(LoadTransformer(at, options, i));
  }
  if (upsample) block.upsample = Upsample::Load(at.At("upsamplers.0"), out_channels);
  return block;
}

at::Tensor UpBlock::Forward(at::Tensor x_BCHW, const UnetContext& context,
                            std::vector<at::Tensor>& skips) const {
  for (size_t i = 0; i < resnets.size(); ++i) {
    x_BCHW = resnets[i].Forward(at::cat({x_BCHW, skips.back()}, 1), context.time_BT);
    skips.pop_back();
    if (!attentions.empty()) x_BCHW = attentions[i].Forward(x_BCHW, *context.text);
  }
  if (upsample) x_BCHW = upsample->Forward(x_BCHW, skips.back().sizes().slice(2));
  return x_BCHW;
}

}  // namespace imageddpo
