#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/nn/attention.h"
#include "common/nn/resnet.h"

namespace imageddpo {

// The three kinds of blocks of the UNet, with or without attention to the text.
// Shape letters as in unet.h; T is the time embedding's width.

/// The inputs of all blocks besides the features.
struct UnetContext {
  at::Tensor time_BT;
  const ProjectedText* text = nullptr;
  /// Not null: the pass is for a backward pass with gradient checkpointing. Each layer (resnet and
  /// transformer) is then recomputed, and the graph keeps only the layers' inputs and this. See
  /// recompute.h.
  std::shared_ptr<const ProjectedText> recomputed_text;
};

struct UnetBlockOptions {
  ResnetOptions resnet;
  Transformer2d::Options transformer;       ///< `layers` comes from transformer_layers.
  std::vector<int64_t> transformer_layers;  ///< One entry for each resnet; empty: no attention.
};

/// DownBlock2D and CrossAttnDownBlock2D.
struct DownBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2d> attentions;
  std::optional<Downsample> downsample;

  static DownBlock Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                        int64_t layers, std::optional<int64_t> downsample_padding,
                        const UnetBlockOptions& options);
  /// Appends to `skips` what the up blocks will need: each layer's output and the downsampled one.
  /// @param x_BCHW  the newest of `skips`.
  at::Tensor Forward(at::Tensor x_BCHW, const UnetContext& context,
                     std::vector<at::Tensor>& skips) const;
};

/// UNetMidBlock2DCrossAttn.
struct MidBlock {
  ResnetBlock resnet0, resnet1;
  Transformer2d attention;

  static MidBlock Load(const ModelLoader& at, int64_t channels, const UnetBlockOptions& options);
  /// @param x_BCHW  the newest of `skips`.
  at::Tensor Forward(const at::Tensor& x_BCHW, const UnetContext& context,
                     std::vector<at::Tensor>& skips) const;
};

/// UpBlock2D and CrossAttnUpBlock2D.
struct UpBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2d> attentions;
  std::optional<Upsample> upsample;

  /// @param previous_channels  of the block below, whose output comes in.
  /// @param skip_channels      of the level above, whose skip the last layer takes.
  static UpBlock Load(const ModelLoader& at, int64_t previous_channels, int64_t out_channels,
                      int64_t skip_channels, int64_t layers, bool upsample,
                      const UnetBlockOptions& options);
  /// Takes one entry for each layer from the end of `skips`. The output has the size of the next
  /// skip.
  at::Tensor Forward(at::Tensor x_BCHW, const UnetContext& context,
                     std::vector<at::Tensor>& skips) const;
};

}  // namespace imageddpo
