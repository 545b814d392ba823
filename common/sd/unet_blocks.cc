#include "common/sd/unet_blocks.h"

#include <ATen/ops/cat.h>

#include <utility>

#include "common/nn/recompute.h"

namespace imageddpo {
namespace {

Transformer2d LoadTransformer(const ModelLoader& at, const UnetBlockOptions& options,
                              size_t layer) {
  Transformer2d::Options transformer = options.transformer;
  transformer.layers = options.transformer_layers[layer];
  return Transformer2d::Load(at.At("attentions", layer), transformer);
}

const Transformer2d* AttentionOf(const std::vector<Transformer2d>& attentions, size_t layer) {
  return attentions.empty() ? nullptr : &attentions[layer];
}

at::Tensor RunLayer(const ResnetBlock& resnet, const Transformer2d* attention, at::Tensor x_BCHW,
                    const at::Tensor& time_BT, const ProjectedText& text) {
  x_BCHW = resnet.Forward(x_BCHW, time_BT);
  return attention == nullptr ? x_BCHW : attention->Forward(x_BCHW, text);
}

/// A layer on the way down, or the first of the middle.
/// @param x_BCHW  the newest of `skips`, which an up block will take as well.
at::Tensor RunLayer(const ResnetBlock& resnet, const Transformer2d* attention,
                    const at::Tensor& x_BCHW, const UnetContext& context,
                    std::vector<at::Tensor>& skips) {
  if (context.recomputed_text == nullptr)
    return RunLayer(resnet, attention, x_BCHW, context.time_BT, *context.text);
  Recomputed layer = Recompute(
      [&resnet, attention, text = context.recomputed_text](const std::vector<at::Tensor>& inputs) {
        return RunLayer(resnet, attention, inputs[0], inputs[1], *text);
      },
      {x_BCHW, context.time_BT});
  skips.back() = std::move(layer.first_input);
  return std::move(layer.output);
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
    x_BCHW = RunLayer(resnets[i], AttentionOf(attentions, i), x_BCHW, context, skips);
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

at::Tensor MidBlock::Forward(const at::Tensor& x_BCHW, const UnetContext& context,
                             std::vector<at::Tensor>& skips) const {
  const at::Tensor y_BCHW = RunLayer(resnet0, &attention, x_BCHW, context, skips);
  if (context.recomputed_text == nullptr) return resnet1.Forward(y_BCHW, context.time_BT);
  return Recompute(
             [this](const std::vector<at::Tensor>& inputs) {
               return resnet1.Forward(inputs[0], inputs[1]);
             },
             {y_BCHW, context.time_BT})
      .output;
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
    at::Tensor skip_BCHW = std::move(skips.back());
    skips.pop_back();
    const bool grows = upsample.has_value() && i + 1 == resnets.size();
    const auto run =
        [this, i, size = grows ? skips.back().sizes().slice(2).vec() : std::vector<int64_t>()](
            at::Tensor both_BCHW, const at::Tensor& time_BT, const ProjectedText& text) {
          const at::Tensor y_BCHW =
              RunLayer(resnets[i], AttentionOf(attentions, i), std::move(both_BCHW), time_BT, text);
          return size.empty() ? y_BCHW : upsample->Forward(y_BCHW, size);
        };
    if (context.recomputed_text != nullptr) {
      const auto part = [run,
                         text = context.recomputed_text](const std::vector<at::Tensor>& inputs) {
        return run(at::cat({inputs[0], inputs[1]}, 1), inputs[2], *text);
      };
      x_BCHW = Recompute(part, {x_BCHW, skip_BCHW, context.time_BT}).output;
    } else {
      x_BCHW = at::cat({x_BCHW, skip_BCHW}, 1);
      skip_BCHW.reset();
      x_BCHW = run(std::move(x_BCHW), context.time_BT, *context.text);
    }
  }
  return x_BCHW;
}

}  // namespace imageddpo
