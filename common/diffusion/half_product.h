#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

// Linear layers in bfloat16 on CPUs with arithmetic for half precision, see half_kernel.h: inputs,
// weights and outputs are bfloat16. Differentiable in x alone, once: the weights must not ask for
// gradients. The same bits at every call with the same shapes.

/// Whether the two functions below can take a layer with these weights and serve better than a
/// plain product.
/// @param tokens  rows of x.
bool IsHalfProduct(const at::Tensor& x, int64_t tokens, const at::Tensor& weight_OI);

/// x W^T + b.
/// @param x       [..., I]
/// @param bias_O  undefined: none.
/// @return [..., O]
at::Tensor HalfLinear(const at::Tensor& x, const at::Tensor& weight_OI, const at::Tensor& bias_O);

/// The same of images, whose features are their channels: W x + b. [B, I, L] to [B, O, L].
at::Tensor HalfChannelsLinear(const at::Tensor& x_BIL, const at::Tensor& weight_OI,
                              const at::Tensor& bias_O);

}  // namespace imageddpo
