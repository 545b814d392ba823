#include "rollout/reward/pixel_bytes.h"

#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

namespace imageddpo {
namespace {

static_assert(std::endian::native == std::endian::little, "RGB_FLOAT32 is little-endian");

/// Adding it to a float from 0 to 255 leaves the nearest whole number in the lowest bits: it is
/// 1.5 · 2^23, where neighbours are 1 apart. The compiler makes vector instructions of it, unlike
/// of nearbyint().
constexpr float kRounding = 12582912.0F;

std::uint8_t ToByte(float value) {
  const float above = value > 0.0F ? value : 0.0F;  // NaN too.
  const float clamped = above < 1.0F ? above : 1.0F;
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(clamped * 255.0F + kRounding));
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
  std::uint8_t* const out = bytes.get();
  for (size_t i = 0; i < num_values; ++i) out[i] = ToByte(in[i]);
  return {bytes, {reinterpret_cast<const char*>(out), num_values}};
}

}  // namespace imageddpo
