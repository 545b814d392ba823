#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <string>

#include "common/config/choices.h"
#include "common/kernels/gpu/fused_kernels.h"

namespace imageddpo {

/// Where a model's weights live and the type it computes in. Inputs and outputs of every model are
/// float32; they are cast to `dtype` inside.
struct ModelOptions {
  at::Device device{at::kCPU};
  at::ScalarType dtype{at::kFloat};  ///< kFloat, kBFloat16 or kHalf.
  /// Gradient checkpointing in the UNet: the same bits, less memory, one more forward pass; see
  /// recompute.h.
  bool recompute = false;
  /// Kernels of our own where they take a layer's input, see fused_layers.h; weights of
  /// convolutions are then channels-last. Null: libtorch's operators everywhere.
  std::shared_ptr<const FusedKernels> fused;
};

inline at::ScalarType DtypeOf(Precision precision) {
  switch (precision) {
    case Precision::kBf16:
      return at::kBFloat16;
    case Precision::kFp16:
      return at::kHalf;
    case Precision::kFp32:
      break;
  }
  return at::kFloat;
}

/// A linear layer that a LoRA can be attached to.
struct LinearInfo {
  std::string path;  ///< "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
  int64_t in_features = 0;
  int64_t out_features = 0;
  /// A 1×1 convolution, which is a linear layer of each pixel's channels. Files have its LoRA as
  /// [R, I, 1, 1] and [O, R, 1, 1].
  bool is_convolution = false;
};

}  // namespace imageddpo
