#include "deploy/demo/blur.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <stdexcept>

namespace imageddpo::demo {
namespace {

using Taps = std::array<double, 2 * kBlurRadius_px + 1>;

Taps GaussianTaps(double sigma_px) {
  Taps taps{};
  double sum = 0.0;
  for (int offset = -kBlurRadius_px; offset <= kBlurRadius_px; ++offset) {
    const double z = offset / sigma_px;
    sum += taps[static_cast<size_t>(offset + kBlurRadius_px)] = std::exp(-0.5 * z * z);
  }
  for (double& tap : taps) tap /= sum;
  return taps;
}

/// Blurs `lines` lines of `length` values; value i of line l stands at l * line_stride + i * step.
std::vector<double> BlurLines(const std::vector<double>& in, const Taps& taps, int lines,
                              int line_stride, int length, int step) {
  std::vector<double> out(in.size());
  for (int line = 0; line < lines; ++line) {
    for (int i = 0; i < length; ++i) {
      const int first = std::max(0, i - kBlurRadius_px);
      const int last = std::min(length - 1, i + kBlurRadius_px);
      double sum = 0.0;
      for (int j = first; j <= last; ++j) {
        sum += taps[static_cast<size_t>(j - i + kBlurRadius_px)] *
               in[static_cast<size_t>(line * line_stride + j * step)];
      }
      out[static_cast<size_t>(line * line_stride + i * step)] = sum;
    }
  }
  return out;
}

}  // namespace

GreyImage PadWithBlack(std::span<const uint8_t> pixels, int height_px, int width_px,
                       int border_px) {
  if (height_px < 0 || width_px < 0 || border_px < 0 ||
      pixels.size() != static_cast<size_t>(height_px) * static_cast<size_t>(width_px)) {
    throw std::invalid_argument("PadWithBlack: the size does not match the pixels");
  }
  GreyImage out{
      .height_px = height_px + 2 * border_px, .width_px = width_px + 2 * border_px, .pixels = {}};
  out.pixels.resize(static_cast<size_t>(out.height_px) * static_cast<size_t>(out.width_px));
  for (int y = 0; y < height_px; ++y) {
    const auto row =
        pixels.subspan(static_cast<size_t>(y * width_px), static_cast<size_t>(width_px));
    std::ranges::copy(row, out.pixels.begin() + (y + border_px) * out.width_px + border_px);
  }
  return out;
}

GreyImage Blur(const GreyImage& image, double sigma_px) {
  if (!std::isfinite(sigma_px) || sigma_px <= 0.0) {
    throw std::invalid_argument("Blur: sigma must be a positive number");
  }
  if (image.pixels.size() !=
      static_cast<size_t>(image.height_px) * static_cast<size_t>(image.width_px)) {
    throw std::invalid_argument("Blur: the size does not match the pixels");
  }
  const Taps taps = GaussianTaps(sigma_px);
  std::vector<double> values(image.pixels.begin(), image.pixels.end());
  values = BlurLines(values, taps, image.height_px, image.width_px, image.width_px, 1);
  values = BlurLines(values, taps, image.width_px, 1, image.height_px, image.width_px);
  GreyImage out = image;
  std::ranges::transform(values, out.pixels.begin(), [](double value) {
    return static_cast<uint8_t>(std::clamp(std::lround(value), 0L, 255L));
  });
  return out;
}

}  // namespace imageddpo::demo
