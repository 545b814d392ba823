#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/kernels/gpu/fused_kernels.h"
#include "common/nn/layers.h"

namespace imageddpo {

// Parts of layers computed by FusedKernels, with gradients. The forward pass is the kernel's, with
// a graph and without one, so that a replay has the bits of the rollout; only its inputs are kept.
// The backward pass runs libtorch's operators on them and back-propagates through those, see
// recompute.h: gradients are those of the layer without the kernel, at the same inputs.

/// @param x_BCHW  that norm.fused takes. @return  channels-last.
at::Tensor FusedGroupNorm(const GroupNorm& norm, const at::Tensor& x_BCHW, bool silu);

/// a · gelu(b) of the halves of x's last dimension. @param fused  must outlive the graph.
at::Tensor FusedGeglu(const FusedKernels& fused, const at::Tensor& x);

/// x down^T for the stacked factors of several layers. @param fused  must outlive the graph.
/// @return  float32 [N, the sum of the ranks], in their order.
at::Tensor FusedLoraDown(const FusedKernels& fused, const at::Tensor& x_NI,
                         const std::vector<at::Tensor>& downs_RI);

}  // namespace imageddpo
