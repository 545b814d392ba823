#pragma once

#include <cstdint>
#include <vector>

namespace imageddpo {

/// Rows of width floats each, `stride` floats apart.
struct NarrowRows {
  const float* data;
  int64_t stride;
  const float* operator[](int64_t row) const { return data + row * stride; }
};
struct NarrowGradientRows {
  float* data;
  int64_t stride;
  float* operator[](int64_t row) const { return data + row * stride; }
};

/// One head of one sample in the backward pass of out = softmax(q·kᵀ / √width)·v. Given are out,
/// the logarithms of the softmax's sums, and the gradient of out. All float32.
struct NarrowHead {
  int64_t queries, keys;
  NarrowRows query, key, value, out, out_gradient;
  const float* log_sum;    ///< per query: log of the sum of exp(q·k / √width) over the keys.
  int64_t log_sum_stride;  ///< in floats.
  NarrowGradientRows query_gradient, key_gradient, value_gradient;  ///< Written, not added to.
};

/// The widths that NarrowHeadBackward() takes.
constexpr bool IsNarrowWidth(int64_t width) { return width == 4 || width == 8 || width == 16; }

/// The gradients of one head (Dao et al., arXiv:2205.14135, section B.2, without its blocks: keys
/// this narrow stay in the cache). Uses AVX-512 or AVX2 where the processor has it; the same bits
/// at every call on one kind of processor.
/// @param width    of a head, see IsNarrowWidth().
/// @param scratch  scratch memory, grown if too small; one per thread.
void NarrowHeadBackward(int64_t width, const NarrowHead& head, std::vector<float>* scratch);

}  // namespace imageddpo
