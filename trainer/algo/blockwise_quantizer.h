#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

/// Quantises float32 values to 8 bits. Each block of 256 values has one scale, its largest
/// magnitude; each value is rounded to one of 256 levels, which are denser towards 0 and span seven
/// powers of ten (dynamic tree quantisation with block-wise scales, Dettmers et al.,
/// arXiv:2110.02861; the levels of bitsandbytes). Immutable.
class BlockwiseQuantizer {
 public:
  static constexpr int64_t kBlockSize = 256;

  /// @param is_signed  true: levels in [-1, 1]; false: in [0, 1], twice as dense.
  explicit BlockwiseQuantizer(bool is_signed);

  struct Quantized {
    at::Tensor codes;     ///< uint8, same shape as the values.
    at::Tensor scales_N;  ///< float32, one per block of the flattened values.
  };
  /// Rounds each value to the nearest level. @param values  float32 of any shape.
  Quantized Quantize(const at::Tensor& values) const;
  /// @return float32, same shape as the codes.
  at::Tensor Dequantize(const Quantized& quantized) const;

  const at::Tensor& levels() const { return levels_; }  ///< float32 [256], ascending.

 private:
  at::Tensor levels_;
  at::Tensor borders_;  ///< float32 [255]: midpoints between neighbouring levels.
};

}  // namespace imageddpo
