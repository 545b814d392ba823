#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

/// Values in 8 bits: one scale, its largest magnitude, for each block of 256, and one of 256 levels
/// for each value, which lie denser towards 0 over seven powers of ten (dynamic tree quantisation
/// with block-wise scales: Dettmers et al., arXiv:2110.02861; the levels are those of
/// bitsandbytes). Immutable.
class BlockwiseQuantizer {
 public:
  static constexpr int64_t kBlockSize = 256;

  /// @param is_signed  levels in [-1, 1]; otherwise twice as many in [0, 1].
  explicit BlockwiseQuantizer(bool is_signed);

  struct Quantized {
    at::Tensor codes;     ///< uint8, of the values' shape.
    at::Tensor scales_N;  ///< float32, one for each block of the flattened values.
  };
  /// To the nearest level. @param values  float32 of any shape.
  Quantized Quantize(const at::Tensor& values) const;
  /// float32 of the codes' shape.
  at::Tensor Dequantize(const Quantized& quantized) const;

  const at::Tensor& levels() const { return levels_; }  ///< float32 [256], ascending.

 private:
  at::Tensor levels_;
  at::Tensor borders_;  ///< float32 [255]: half way between neighbours.
};

}  // namespace imageddpo
