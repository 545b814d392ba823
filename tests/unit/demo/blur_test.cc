#include "deploy/demo/blur.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace imageddpo::demo {
namespace {

uint8_t At(const GreyImage& image, int y, int x) {
  return image.pixels.at(static_cast<size_t>(y * image.width_px + x));
}

TEST(PadWithBlackTest, PutsTheImageInTheMiddle) {
  const std::vector<uint8_t> pixels = {1, 2, 3, 4, 5, 6};
  const GreyImage padded = PadWithBlack(pixels, 2, 3, 2);
  EXPECT_EQ(padded.height_px, 6);
  EXPECT_EQ(padded.width_px, 7);
  EXPECT_EQ(At(padded, 2, 2), 1);
  EXPECT_EQ(At(padded, 2, 4), 3);
  EXPECT_EQ(At(padded, 3, 2), 4);
  EXPECT_EQ(At(padded, 3, 4), 6);
  EXPECT_EQ(std::accumulate(padded.pixels.begin(), padded.pixels.end(), 0), 21);
}

TEST(PadWithBlackTest, RefusesAWrongSize) {
  const std::vector<uint8_t> pixels = {1, 2, 3};
  EXPECT_THROW(PadWithBlack(pixels, 2, 2, 1), std::invalid_argument);
}

TEST(BlurTest, SpreadsAPointAsTheGaussianSays) {
  GreyImage image{.height_px = 32, .width_px = 32, .pixels = std::vector<uint8_t>(1024)};
  image.pixels[16 * 32 + 10] = 255;
  const double sigma_px = 0.8;
  const GreyImage blurred = Blur(image, sigma_px);

  double sum = 0.0;
  for (int i = -kBlurRadius_px; i <= kBlurRadius_px; ++i)
    sum += std::exp(-i * i / (2 * sigma_px * sigma_px));
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 32; ++x) {
      const int dy = y - 16;
      const int dx = x - 10;
      const bool inside = std::abs(dy) <= kBlurRadius_px && std::abs(dx) <= kBlurRadius_px;
      const double weight =
          std::exp(-(dy * dy + dx * dx) / (2 * sigma_px * sigma_px)) / (sum * sum);
      EXPECT_EQ(At(blurred, y, x), inside ? std::lround(255 * weight) : 0) << y << ", " << x;
    }
  }
}

TEST(BlurTest, KeepsAFlatMiddleAndDarkensTheBorder) {
  const GreyImage image{.height_px = 20, .width_px = 24, .pixels = std::vector<uint8_t>(480, 200)};
  const GreyImage blurred = Blur(image, 1.6);
  EXPECT_EQ(At(blurred, 10, 12), 200);
  // At the edge a little more than half of the taps lie inside; at a corner the square of that.
  double sum = 0.0;
  double inside = 0.0;
  for (int i = -kBlurRadius_px; i <= kBlurRadius_px; ++i) {
    const double tap = std::exp(-i * i / (2 * 1.6 * 1.6));
    sum += tap;
    if (i >= 0) inside += tap;
  }
  EXPECT_EQ(At(blurred, 10, 0), std::lround(200 * inside / sum));
  EXPECT_EQ(At(blurred, 0, 23), std::lround(200 * (inside / sum) * (inside / sum)));
}

TEST(BlurTest, TreatsRowsAndColumnsAlike) {
  GreyImage image{.height_px = 16, .width_px = 16, .pixels = std::vector<uint8_t>(256)};
  GreyImage transposed = image;
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      const auto value = static_cast<uint8_t>((37 * y + 11 * x) % 256);
      image.pixels[static_cast<size_t>(y * 16 + x)] = value;
      transposed.pixels[static_cast<size_t>(x * 16 + y)] = value;
    }
  }
  const GreyImage a = Blur(image, 1.6);
  const GreyImage b = Blur(transposed, 1.6);
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) EXPECT_EQ(At(a, y, x), At(b, x, y));
  }
}

TEST(BlurTest, RefusesBadInput) {
  const GreyImage image{.height_px = 1, .width_px = 1, .pixels = {9}};
  EXPECT_THROW(Blur(image, 0.0), std::invalid_argument);
  EXPECT_THROW(Blur(image, -1.0), std::invalid_argument);
  EXPECT_THROW(Blur(image, std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
  const GreyImage short_image{.height_px = 2, .width_px = 1, .pixels = {9}};
  EXPECT_THROW(Blur(short_image, 1.0), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo::demo
