/// The demo's damage: a Gaussian blur of grey 8-bit images, and the padding before it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace imageddpo::demo {

inline constexpr int kBlurRadius_px = 6;

/// A grey image, row-major.
struct GreyImage {
  int height_px = 0;
  int width_px = 0;
  std::vector<uint8_t> pixels;  ///< height_px * width_px values
};

/// Puts black borders of `border_px` on all four sides.
GreyImage PadWithBlack(std::span<const uint8_t> pixels, int height_px, int width_px, int border_px);

/// Separable Gaussian of standard deviation `sigma_px` over 2 * kBlurRadius_px + 1 taps that add up
/// to 1; what lies outside counts as black. Rounded to the nearest 8-bit level once, at the end.
/// @throws std::invalid_argument  sigma_px not positive and finite, or a size that does not match
/// the pixels
GreyImage Blur(const GreyImage& image, double sigma_px);

}  // namespace imageddpo::demo
