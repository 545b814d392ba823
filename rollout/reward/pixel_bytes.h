#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "imageddpo/v1/reward.pb.h"
#include "rollout/reward/remote/remote_reward.h"

namespace imageddpo {

/// Images as bytes, [B,3,H,W] in C order: for RGB_FLOAT32 the tensor's own memory where it is on
/// the CPU and contiguous; for RGB_UINT8 value · 255, rounded to the nearest, halves to even, after
/// clamping to [0,1], as TensorToImage(); NaN becomes 0. Runs in UseThreads()' threads.
/// @param images_BCHW  float32, any device. @param encoding  RGB_UINT8 or RGB_FLOAT32.
/// @param finite_B     gets what AreFinite() appends, from the same pass; null: not looked for.
SharedBytes PixelBytes(const at::Tensor& images_BCHW, v1::PixelEncoding encoding,
                       std::vector<bool>* finite_B = nullptr);

/// Appends for each image whether all of its values are finite.
/// @param images_BCHW  contiguous float32 on the CPU.
void AreFinite(const at::Tensor& images_BCHW, std::vector<bool>* finite_B);

}  // namespace imageddpo
