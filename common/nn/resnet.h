#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "common/nn/activation.h"
#include "common/nn/layers.h"

namespace imageddpo {

// The convolutional parts of UNet and VAE. Shape letters: B batch, C channels, H W height and
// width, T time embedding width.

/// What all residual blocks of one model have in common.
struct ResnetOptions {
  int64_t time_dim = 0;  ///< 0: no time embedding.
  int64_t norm_groups = 32;
  double norm_eps = 1e-5;
  Activation act = Activation::kSilu;
  double output_scale_factor = 1.0;
};

/// Two normed 3x3 convolutions with the time embedding added between, added to the input, divided
/// by output_scale_factor.
struct ResnetBlock {
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2;
  std::optional<Linear> time_emb_proj;
  std::optional<Conv2d> conv_shortcut;  ///< Where in and out channels differ.
  Activation act = Activation::kSilu;
  double output_scale_factor = 1.0;

  static ResnetBlock Load(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                          const ResnetOptions& options);
  /// @param time_BT  undefined in blocks without a time embedding.
  at::Tensor Forward(const at::Tensor& x_BCHW, const at::Tensor& time_BT) const;
};

/// Halves height and width by a 3x3 convolution of stride 2. Padding 0 stands for one row and
/// column at the lower and right edge only.
struct Downsample {
  Conv2d conv;

  static Downsample Load(const ModelLoader& at, int64_t channels, int64_t padding);
  at::Tensor Forward(const at::Tensor& x_BCHW) const;
};

/// Repeats pixels up to `size`, or to twice the height and width, then a 3x3 convolution.
struct Upsample {
  Conv2d conv;

  static Upsample Load(const ModelLoader& at, int64_t channels);
  at::Tensor Forward(const at::Tensor& x_BCHW,
                     std::optional<at::IntArrayRef> size_HW = std::nullopt) const;
};

}  // namespace imageddpo
