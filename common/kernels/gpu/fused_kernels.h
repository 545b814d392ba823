#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "common/kernels/gpu/gpu_launcher.h"

namespace imageddpo {

/// The kernels of this folder as functions of tensors, each in place of several of libtorch's. They
/// record no graph: common/nn/fused_layers.h gives them their gradients. Thread-compatible.
/// docs/kernels.md says what each saves.
class FusedKernels {
 public:
  explicit FusedKernels(std::unique_ptr<GpuLauncher> launcher) : launcher_(std::move(launcher)) {}

  /// Whether the function of that name takes such a tensor: float32 or bfloat16, of a shape that
  /// its kernel knows, on a device that the launcher reaches. What is not taken is left to
  /// libtorch's operators.
  bool TakesGroupNorm(const at::Tensor& x_BCHW, int64_t groups) const;
  bool TakesGeglu(const at::Tensor& x) const;
  bool TakesLoraDown(const at::Tensor& x_NI) const;

  /// Group norm, with SiLU behind it where `silu`. Statistics and arithmetic in float32, one
  /// rounding. @param weight_C, bias_C  of x's dtype.
  /// @return  channels-last, of x's shape and dtype. An x in another layout is copied first.
  at::Tensor GroupNorm(const at::Tensor& x_BCHW, const at::Tensor& weight_C,
                       const at::Tensor& bias_C, int64_t groups, double eps, bool silu) const;

  /// a · gelu(b), where (a, b) are the halves of the last dimension.
  /// @param x  [..., 2 D], D a multiple of 4. @return [..., D] of x's dtype.
  at::Tensor Geglu(const at::Tensor& x) const;

  /// x down^T with products and sums in float32. @param down_RI  float32 @return float32 [N, R]
  at::Tensor LoraDown(const at::Tensor& x_NI, const at::Tensor& down_RI) const;

 private:
  bool Takes(const at::Tensor& x) const;

  std::unique_ptr<GpuLauncher> launcher_;
};

}  // namespace imageddpo
