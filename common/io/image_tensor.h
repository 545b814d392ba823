#pragma once

#include <ATen/core/Tensor.h>

#include "common/io/image.h"

namespace imageddpo {

/// [3, H, W] float32 on the CPU, value / 255.
at::Tensor ImageToTensor(const Image& image);

/// @param image_CHW  [3, H, W] floating point in [0, 1], any device. Values are clamped,
///                   times 255, rounded to the nearest, halves to even (as diffusers'
///                   numpy_to_pil); NaN becomes 0.
/// @throws std::invalid_argument  wrong shape or dtype (a caller bug).
Image TensorToImage(const at::Tensor& image_CHW);

}  // namespace imageddpo
