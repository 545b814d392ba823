#include "rollout/reward/pixel_bytes.h"

#include <emmintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>

#include "common/kernels/threads.h"

namespace imageddpo {
namespace {

static_assert(std::endian::native == std::endian::little, "RGB_FLOAT32 is little-endian");

constexpr size_t kStep = 16;  // Values of one turn of a loop.

/// All bits of a lane whose value is NaN or infinite, whose exponent has only ones; else none.
__m128i NotFinite(__m128 values) {
  const __m128i exponent = _mm_set1_epi32(0x7f800000);
  return _mm_cmpeq_epi32(_mm_and_si128(_mm_castps_si128(values), exponent), exponent);
}

/// Four values as bytes in 32-bit lanes. NaN becomes 0: maxps returns its second operand then.
__m128i ToBytes(const float* values, __m128i* not_finite) {
  const __m128 loaded = _mm_loadu_ps(values);
  *not_finite = _mm_or_si128(*not_finite, NotFinite(loaded));
  const __m128 above = _mm_max_ps(loaded, _mm_setzero_ps());
  const __m128 clamped = _mm_min_ps(above, _mm_set1_ps(1.0F));
  return _mm_cvtps_epi32(_mm_mul_ps(clamped, _mm_set1_ps(255.0F)));  // Halves to even.
}

/// SSE2, which every x86-64 has: the compiler makes no vector instructions of a plain loop, which
/// takes 4 times as long. @return whether all values are finite.
bool ConvertToBytes(const float* in, size_t num_values, std::uint8_t* out) {
  __m128i not_finite = _mm_setzero_si128();
  size_t i = 0;
  for (; i + kStep <= num_values; i += kStep) {
    const __m128i a = ToBytes(in + i, &not_finite), b = ToBytes(in + i + 4, &not_finite);
    const __m128i c = ToBytes(in + i + 8, &not_finite), d = ToBytes(in + i + 12, &not_finite);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
  }
  for (; i < num_values; ++i) {
    const float lanes[4] = {in[i]};
    out[i] = static_cast<std::uint8_t>(_mm_cvtsi128_si32(ToBytes(lanes, &not_finite)));
  }
  return _mm_movemask_epi8(not_finite) == 0;
}

bool IsFinite(const float* in, size_t num_values) {
  __m128i not_finite = _mm_setzero_si128();
  size_t i = 0;
  for (; i + 4 <= num_values; i += 4) {
    not_finite = _mm_or_si128(not_finite, NotFinite(_mm_loadu_ps(in + i)));
  }
  for (; i < num_values; ++i) not_finite = _mm_or_si128(not_finite, NotFinite(_mm_set1_ps(in[i])));
  return _mm_movemask_epi8(not_finite) == 0;
}

/// Calls `is_finite(values, size, offset)` for the values of each row of pixels, in several
/// threads. @param finite_B  gets for each image whether it was true of all rows; may be null.
template <typename Function>
void ForRows(const at::Tensor& images_BCHW, std::vector<bool>* finite_B,
             const Function& is_finite) {
  const float* const in = images_BCHW.const_data_ptr<float>();
  const int64_t rows = images_BCHW.size(1) * images_BCHW.size(2);  // Of an image.
  const int64_t width = images_BCHW.size(3);
  std::vector<std::uint8_t> finite_R(static_cast<size_t>(images_BCHW.size(0) * rows));
  ParallelFor(static_cast<int64_t>(finite_R.size()), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      finite_R[static_cast<size_t>(r)] =
          is_finite(in + r * width, static_cast<size_t>(width), static_cast<size_t>(r * width));
    }
  });
  if (finite_B == nullptr) return;
  for (auto row = finite_R.begin(); row != finite_R.end(); row += rows) {
    finite_B->push_back(std::find(row, row + rows, 0) == row + rows);
  }
}

}  // namespace

SharedBytes PixelBytes(const at::Tensor& images_BCHW, v1::PixelEncoding encoding,
                       std::vector<bool>* finite_B) {
  auto values = std::make_shared<const at::Tensor>(
      images_BCHW.detach().to(at::kCPU, at::kFloat).contiguous());
  const auto num_values = static_cast<size_t>(values->numel());
  if (encoding == v1::RGB_FLOAT32) {
    if (finite_B != nullptr) AreFinite(*values, finite_B);
    const auto* const bytes = reinterpret_cast<const char*>(values->const_data_ptr<float>());
    return {values, {bytes, num_values * sizeof(float)}};
  }
  const std::shared_ptr<std::uint8_t> bytes(new std::uint8_t[num_values],
                                            std::default_delete<std::uint8_t[]>());
  ForRows(*values, finite_B, [out = bytes.get()](const float* in, size_t size, size_t offset) {
    return ConvertToBytes(in, size, out + offset);
  });
  return {bytes, {reinterpret_cast<const char*>(bytes.get()), num_values}};
}

void AreFinite(const at::Tensor& images_BCHW, std::vector<bool>* finite_B) {
  ForRows(images_BCHW, finite_B,
          [](const float* in, size_t size, size_t /*offset*/) { return IsFinite(in, size); });
}

}  // namespace imageddpo
