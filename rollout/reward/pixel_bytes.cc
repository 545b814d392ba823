#include "rollout/reward/pixel_bytes.h"

#include <emmintrin.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

namespace imageddpo {
namespace {

static_assert(std::endian::native == std::endian::little, "RGB_FLOAT32 is little-endian");

/// Four values as bytes in 32-bit lanes. NaN becomes 0: maxps returns its second operand then.
__m128i ToBytes(const float* values) {
  const __m128 above = _mm_max_ps(_mm_loadu_ps(values), _mm_setzero_ps());
  const __m128 clamped = _mm_min_ps(above, _mm_set1_ps(1.0F));
  return _mm_cvtps_epi32(_mm_mul_ps(clamped, _mm_set1_ps(255.0F)));  // Halves to even.
}

/// SSE2, which every x86-64 has: the compiler makes no vector instructions of a plain loop, which
/// takes 4 times as long.
void ConvertToBytes(const float* in, size_t num_values, std::uint8_t* out) {
  constexpr size_t kStep = 16;
  size_t i = 0;
  for (; i + kStep <= num_values; i += kStep) {
    const __m128i low = _mm_packs_epi32(ToBytes(in + i), ToBytes(in + i + 4));
    const __m128i high = _mm_packs_epi32(ToBytes(in + i + 8), ToBytes(in + i + 12));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(low, high));
  }
  for (; i < num_values; ++i) {
    const float lanes[4] = {in[i]};
    out[i] = static_cast<std::uint8_t>(_mm_cvtsi128_si32(ToBytes(lanes)));
  }
}

}  // namespace

SharedBytes PixelBytes(const at::Tensor& images_BCHW, v1::PixelEncoding encoding) {
  auto values = std::make_shared<const at::Tensor>(
      images_BCHW.detach().to(at::kCPU, at::kFloat).contiguous());
  const auto num_values = static_cast<size_t>(values->numel());
  const float* const in = values->const_data_ptr<float>();
  if (encoding == v1::RGB_FLOAT32) {
    return {values, {reinterpret_cast<const char*>(in), num_values * sizeof(float)}};
  }
  const std::shared_ptr<std::uint8_t> bytes(new std::uint8_t[num_values],
                                            std::default_delete<std::uint8_t[]>());
  ConvertToBytes(in, num_values, bytes.get());
  return {bytes, {reinterpret_cast<const char*>(bytes.get()), num_values}};
}

}  // namespace imageddpo
