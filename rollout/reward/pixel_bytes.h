#pragma once

#include <ATen/core/Tensor.h>

#include "imageddpo/v1/reward.pb.h"
#include "rollout/reward/remote/remote_reward.h"

namespace imageddpo {

/// Images as bytes, [B,3,H,W] in C order: for RGB_FLOAT32 the tensor's own memory where it is on
/// the CPU and contiguous; for RGB_UINT8 value · 255, rounded to the nearest, halves to even, after
/// clamping to [0,1], as TensorToImage(); NaN becomes 0.
/// @param images_BCHW  float32, any device. @param encoding  RGB_UINT8 or RGB_FLOAT32.
SharedBytes PixelBytes(const at::Tensor& images_BCHW, v1::PixelEncoding encoding);

}  // namespace imageddpo
