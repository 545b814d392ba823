#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "common/io/image.h"
#include "common/io/image_internal.h"

// Separable convolution whose kernel is stretched by the scale when shrinking. The numeric
// conventions (support, centre, normalisation, 22-bit fixed point, rounding) are those of PIL's
// Image.resize, so that images come out equal.
namespace imageddpo {
namespace {

constexpr int kFractionBits =
    32 - 8 - 2;  // A sum of 8-bit pixels times weights up to ±2 fits in 32 bits.

struct Kernel {
  double support;  ///< Zero beyond ±support.
  double (*weight)(double);
};

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double Triangle(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

/// Keys' cubic convolution with a = -0.5.
double Cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

double Sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= M_PI;
  return std::sin(x) / x;
}

double Lanczos3(double x) { return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3) : 0.0; }

Kernel KernelOf(ResizeFilter filter) {
  switch (filter) {
    case ResizeFilter::kBox:
      return {0.5, Box};
    case ResizeFilter::kBilinear:
      return {1.0, Triangle};
    case ResizeFilter::kBicubic:
      return {2.0, Cubic};
    case ResizeFilter::kLanczos:
      return {3.0, Lanczos3};
  }
  throw std::invalid_argument("Resize: unknown filter");
}

/// The weights of the source pixels first, first + 1, … that make one target pixel.
struct Taps {
  int first = 0;
  std::vector<int32_t> weights;
};

std::vector<Taps> ComputeTaps(int source_size, int target_size, const Kernel& kernel) {
  const double scale = static_cast<double>(source_size) / target_size;
  const double stretch = std::max(scale, 1.0);
  const double support = kernel.support * stretch;
  const double inverse_stretch = 1.0 / stretch;
  std::vector<Taps> taps(static_cast<size_t>(target_size));
  std::vector<double> weights;
  for (int target = 0; target < target_size; ++target) {
    const double centre = (target + 0.5) * scale;
    // Cut, not rounded, as PIL does. NOLINTBEGIN(bugprone-incorrect-roundings)
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + support + 0.5), source_size);
    // NOLINTEND(bugprone-incorrect-roundings)
    weights.clear();
    double sum = 0.0;
    for (int source = first; source < last; ++source) {
      weights.push_back(kernel.weight((source - centre + 0.5) * inverse_stretch));
      sum += weights.back();
    }
    Taps& out = taps[static_cast<size_t>(target)];
    out.first = first;
    for (double weight : weights) {
      if (sum != 0.0) weight *= 1.0 / sum;
      out.weights.push_back(
          static_cast<int32_t>(weight * (1 << kFractionBits) + (weight < 0 ? -0.5 : 0.5)));
    }
  }
  return taps;
}

/// Applies taps along one axis. Pixel p of line l lies at pixels[l * line_stride + p *
/// pixel_stride], both in bytes.
void Convolve(const std::vector<Taps>& taps, size_t num_lines, const uint8_t* source,
              size_t source_line_stride, size_t source_pixel_stride, uint8_t* target,
              size_t target_line_stride, size_t target_pixel_stride) {
  for (size_t line = 0; line < num_lines; ++line) {
    for (size_t pixel = 0; pixel < taps.size(); ++pixel) {
      const Taps& tap = taps[pixel];
      const uint8_t* from =
          source + line * source_line_stride + static_cast<size_t>(tap.first) * source_pixel_stride;
      uint8_t* to = target + line * target_line_stride + pixel * target_pixel_stride;
      for (size_t channel = 0; channel < 3; ++channel) {
        int32_t sum = 1 << (kFractionBits - 1);
        for (size_t i = 0; i < tap.weights.size(); ++i)
          sum += from[i * source_pixel_stride + channel] * tap.weights[i];
        to[channel] = static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
      }
    }
  }
}

Image ResizeWidth(const Image& image, int width, const Kernel& kernel) {
  const size_t source_row = static_cast<size_t>(image.width) * 3;
  const size_t target_row = static_cast<size_t>(width) * 3;
  Image result{width, image.height,
               std::vector<uint8_t>(target_row * static_cast<size_t>(image.height))};
  Convolve(ComputeTaps(image.width, width, kernel), static_cast<size_t>(image.height),
           image.rgb.data(), source_row, 3, result.rgb.data(), target_row, 3);
  return result;
}

Image ResizeHeight(const Image& image, int height, const Kernel& kernel) {
  const size_t row = static_cast<size_t>(image.width) * 3;
  Image result{image.width, height, std::vector<uint8_t>(row * static_cast<size_t>(height))};
  Convolve(ComputeTaps(image.height, height, kernel), static_cast<size_t>(image.width),
           image.rgb.data(), 3, row, result.rgb.data(), 3, row);
  return result;
}

}  // namespace

Image Resize(const Image& image, int width, int height, ResizeFilter filter) {
  if (!CheckImage(image).ok() || width < 1 || height < 1)
    throw std::invalid_argument("Resize: empty image or size");
  const Kernel kernel = KernelOf(filter);
  Image result = width == image.width ? image : ResizeWidth(image, width, kernel);
  return height == image.height ? result : ResizeHeight(result, height, kernel);
}

}  // namespace imageddpo
