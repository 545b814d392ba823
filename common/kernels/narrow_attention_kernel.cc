#include "common/kernels/narrow_attention_kernel.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "common/kernels/lanes.h"

// Lanes run over the keys, so that heads far narrower than a register fill it all the same.
namespace imageddpo {
namespace {

/// exp(x) to 2e-7 of itself for x in [-87, 88]; below it is exp(-87), NaN stays NaN. Reduction and
/// polynomial are those of Cephes' expf (Moshier).
IMAGEDDPO_INLINE Lanes Exp(Lanes x) {
  constexpr float kLog2E = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  constexpr float kToInteger = 12582912.0F;  // 1.5·2²³: what is added to it is rounded to integers.
  x = x < -87.0F ? Lanes{} - 87.0F : x;
  const Lanes shifted = x * kLog2E + kToInteger;
  const Lanes n = shifted - kToInteger;
  const Lanes r = (x - n * kLn2High) - n * kLn2Low;
  Lanes y = r * 1.9875691500e-4F + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * r * r + r + 1.0F;
  IntLanes bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - std::bit_cast<int32_t>(kToInteger) + 127) << 23;
  Lanes power;
  std::memcpy(&power, &bits, sizeof(power));
  return y * power;
}

/// With a lane for each key: keys and values and their gradients, [width, padded keys] each, and
/// the gradients of the scores of the queries under way, [rows, padded keys].
struct Columns {
  int64_t padded;
  float *key, *value, *key_gradient, *value_gradient, *score_gradient;
};

/// Of kRows queries from `row` on: their gradients, and their part in the keys' and values'.
template <int kWidth, int kRows>
IMAGEDDPO_INLINE void Rows(const NarrowHead& head, const Columns& columns, int64_t row) {
  const float scale = 1.0F / std::sqrt(static_cast<float>(kWidth));
  float query[kRows][kWidth], out_gradient[kRows][kWidth], log_sum[kRows], delta[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    log_sum[r] = head.log_sum[(row + r) * head.log_sum_stride];
    delta[r] = 0;
    for (int c = 0; c < kWidth; ++c) {
      query[r][c] = head.query[row + r][c] * scale;
      out_gradient[r][c] = head.out_gradient[row + r][c];
      delta[r] += out_gradient[r][c] * head.out[row + r][c];
    }
  }
  for (int64_t j = 0; j < columns.padded; j += kLanes) {
    Lanes weight[kRows], score_gradient[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      weight[r] = Lanes{} - log_sum[r];
      score_gradient[r] = Lanes{} - delta[r];
    }
    for (int c = 0; c < kWidth; ++c) {
      const Lanes key = LoadLanes(columns.key + c * columns.padded + j);
      const Lanes value = LoadLanes(columns.value + c * columns.padded + j);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        weight[r] += key * query[r][c];
        score_gradient[r] += value * out_gradient[r][c];
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      // No weight is above 1 but of the lanes behind the last key, which must stay finite.
      weight[r] = Exp(weight[r] > 1.0F ? Lanes{} + 1.0F : weight[r]);
      score_gradient[r] *= weight[r];
      StoreLanes(score_gradient[r], columns.score_gradient + r * columns.padded + j);
    }
    for (int c = 0; c < kWidth; ++c) {
      const int64_t at = c * columns.padded + j;
      Lanes key_gradient = LoadLanes(columns.key_gradient + at);
      Lanes value_gradient = LoadLanes(columns.value_gradient + at);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        key_gradient += score_gradient[r] * query[r][c];
        value_gradient += weight[r] * out_gradient[r][c];
      }
      StoreLanes(key_gradient, columns.key_gradient + at);
      StoreLanes(value_gradient, columns.value_gradient + at);
    }
  }
  using Row [[gnu::vector_size(kWidth * sizeof(float))]] = float;
  Row query_gradient[kRows] = {};
  for (int64_t j = 0; j < head.keys; ++j) {
    Row key;
    std::memcpy(&key, head.key[j], sizeof(key));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      query_gradient[r] += key * columns.score_gradient[r * columns.padded + j];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    query_gradient[r] *= scale;
    std::memcpy(head.query_gradient[row + r], &query_gradient[r], sizeof(Row));
  }
}

template <int kWidth>
IMAGEDDPO_INLINE void Backward(const NarrowHead& head, std::vector<float>* scratch) {
  const int64_t padded = (head.keys + kLanes - 1) / kLanes * kLanes, size = kWidth * padded;
  constexpr int kRows = 8;
  scratch->assign(4 * size + kRows * padded, 0.0F);
  const Columns columns = {.padded = padded,
                           .key = scratch->data(),
                           .value = scratch->data() + size,
                           .key_gradient = scratch->data() + 2 * size,
                           .value_gradient = scratch->data() + 3 * size,
                           .score_gradient = scratch->data() + 4 * size};
  for (int64_t j = 0; j < head.keys; ++j) {
    for (int c = 0; c < kWidth; ++c) {
      columns.key[c * padded + j] = head.key[j][c];
      columns.value[c * padded + j] = head.value[j][c];
    }
  }
  int64_t row = 0;
  for (; row + kRows <= head.queries; row += kRows) Rows<kWidth, kRows>(head, columns, row);
  for (; row < head.queries; ++row) Rows<kWidth, 1>(head, columns, row);
  for (int64_t j = 0; j < head.keys; ++j) {
    for (int c = 0; c < kWidth; ++c) {
      head.key_gradient[j][c] = columns.key_gradient[c * padded + j];
      head.value_gradient[j][c] = columns.value_gradient[c * padded + j];
    }
  }
}

struct BackwardKernel {
  int64_t width;
  const NarrowHead* head;
  std::vector<float>* scratch;

  IMAGEDDPO_INLINE void operator()() const {
    switch (width) {
      case 4:
        return Backward<4>(*head, scratch);
      case 8:
        return Backward<8>(*head, scratch);
      case 16:
        return Backward<16>(*head, scratch);
      default:
        std::abort();
    }
  }
};

}  // namespace

void NarrowHeadBackward(int64_t width, const NarrowHead& head, std::vector<float>* scratch) {
  RunKernel(BackwardKernel{.width = width, .head = &head, .scratch = scratch});
}

}  // namespace imageddpo
