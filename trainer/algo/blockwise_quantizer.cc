#include "trainer/algo/blockwise_quantizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/device/copies.h"

namespace imageddpo {
namespace {

constexpr int kDecades = 7;

/// Decade d has 2^d (signed) or 2^(d+1) levels: midpoints of equal parts of [0.1, 1], scaled.
std::vector<double> Levels(bool is_signed) {
  std::vector<double> levels = {0.0, 1.0};
  for (int decade = 0; decade < kDecades; ++decade) {
    const int parts = 1 << (is_signed ? decade : decade + 1);
    const double scale = std::pow(10.0, decade - (kDecades - 1));
    for (int part = 0; part < parts; ++part) {
      const double middle = 0.1 + 0.9 * (part + 0.5) / parts;
      levels.push_back(scale * middle);
      if (is_signed) levels.push_back(-scale * middle);
    }
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

/// [blocks, kBlockSize], the last block filled up with zeros.
at::Tensor Blocks(const at::Tensor& values) {
  const int64_t size = values.numel();
  const int64_t missing = (BlockwiseQuantizer::kBlockSize - size % BlockwiseQuantizer::kBlockSize) %
                          BlockwiseQuantizer::kBlockSize;
  return at::constant_pad_nd(values.reshape({-1}), {0, missing}, 0)
      .view({-1, BlockwiseQuantizer::kBlockSize});
}

}  // namespace

BlockwiseQuantizer::BlockwiseQuantizer(bool is_signed)
    : levels_(at::tensor(Levels(is_signed), at::kDouble).to(at::kFloat)) {
  const int64_t count = levels_.numel();
  borders_ = (levels_.narrow(0, 0, count - 1) + levels_.narrow(0, 1, count - 1)) / 2;
}

BlockwiseQuantizer::Quantized BlockwiseQuantizer::Quantize(const at::Tensor& values) const {
  const at::Tensor blocks_NS = Blocks(values);
  const at::Tensor scales_N = blocks_NS.abs().amax(1);
  const at::Tensor divisors_N = at::where(scales_N > 0, scales_N, at::ones_like(scales_N));
  const at::Tensor codes_NS =
      at::bucketize(blocks_NS / divisors_N.unsqueeze(1), MoveTo(borders_, values.device()),
                    /*out_int32=*/true);
  return {.codes = codes_NS.to(at::kByte)
                       .reshape({-1})
                       .narrow(0, 0, values.numel())
                       .clone()
                       .view(values.sizes()),
          .scales_N = scales_N};
}

at::Tensor BlockwiseQuantizer::Dequantize(const Quantized& quantized) const {
  const at::Tensor values = MoveTo(levels_, quantized.codes.device())
                                .index_select(0, quantized.codes.reshape({-1}).to(at::kLong));
  return (Blocks(values) * quantized.scales_N.unsqueeze(1))
      .reshape({-1})
      .narrow(0, 0, quantized.codes.numel())
      .clone()
      .view(quantized.codes.sizes());
}

}  // namespace imageddpo
