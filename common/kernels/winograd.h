#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

/// The tile side that WinogradConvolution() should use for this convolution, or 0 if a plain one is
/// faster, as for bfloat16 with HasMatrixUnits(). For 3×3 filters with stride 1 and padding 1 on a
/// CPU.
int64_t WinogradTile(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW);

/// A convolution of 3×3 filters with stride 1 and padding 1 in 16/36 (tile 2) or 36/144 (tile 4) of
/// the products of a plain one (Lavin & Gray, arXiv:1509.09308), computed in float32 whatever the
/// dtype. Differentiable once, in x only: the weights must not require gradients.
/// @param x_BCHW   float32 or bfloat16 on the CPU, not empty; weight and bias of the same dtype.
///                 Both numbers of channels must be multiples of 16.
/// @param bias_O   undefined: none.
at::Tensor WinogradConvolution(const at::Tensor& x_BCHW, const at::Tensor& weight_OIHW,
                               const at::Tensor& bias_O, int64_t tile);

}  // namespace imageddpo
