#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "rollout/data/corrupt/kinds.h"
#include "rollout/data/corrupt/pixels.h"

namespace imageddpo {
namespace {

/// A smooth field of shifts along one axis, in pixels.
Pixels Shifts(const Image& image, double alpha, CorruptRandom& random) {
  const double most = image.height * 0.005;
  Pixels field = Pixels::Zeros(image.width, image.height, 1);
  for (double& value : field.values) value = random.Uniform(-most, most);
  field = GaussianBlur(field, image.width * 0.01, image.height * 0.01, 3, Border::kReflect);
  for (double& value : field.values) value *= alpha;
  return field;
}

/// The value between four pixels.
double Between(const Pixels& pixels, double x, double y, int channel) {
  const int x0 = static_cast<int>(std::floor(x)), y0 = static_cast<int>(std::floor(y));
  const double weight_x = x - x0, weight_y = y - y0;
  const auto value = [&](int px, int py) {
    return pixels.at(Inside(px, pixels.width, Border::kReflect),
                     Inside(py, pixels.height, Border::kReflect), channel);
  };
  const double upper = value(x0, y0) * (1 - weight_x) + value(x0 + 1, y0) * weight_x;
  const double lower = value(x0, y0 + 1) * (1 - weight_x) + value(x0 + 1, y0 + 1) * weight_x;
  return upper * (1 - weight_y) + lower * weight_y;
}

/// Where each place of an axis comes from when it is enlarged without interpolation; added up step
/// by step, as PIL does, since the rounding decides between two places.
std::vector<int> NearestPlaces(int size, int enlarged) {
  const double step = static_cast<double>(size) / enlarged;
  double from = step * 0.5;
  std::vector<int> places(static_cast<size_t>(enlarged));
  for (int& place : places) {
    place = std::min(static_cast<int>(from), size - 1);
    from += step;
  }
  return places;
}

}  // namespace

Image ElasticTransform(const Image& image, int severity, CorruptRandom& random) {
  constexpr std::array kAlpha = {250 * .05, 250 * .065, 250 * .085, 250 * .1, 250 * .12};
  const double alpha = kAlpha[static_cast<size_t>(severity - 1)];
  const Pixels dx = Shifts(image, alpha, random);
  const Pixels dy = Shifts(image, alpha, random);
  const Pixels pixels = Pixels::Of(image);
  Pixels moved = Pixels::Zeros(image.width, image.height, 3);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        moved.at(x, y, c) = Between(pixels, x + dx.at(x, y), y + dy.at(x, y), c);
      }
    }
  }
  return ToImage(moved);
}

Image Pixelate(const Image& image, int severity) {
  constexpr std::array kShare = {.6, .5, .4, .3, .25};
  const double share = kShare[static_cast<size_t>(severity - 1)];
  const int width = std::max(1, static_cast<int>(image.width * share));
  const int height = std::max(1, static_cast<int>(image.height * share));
  const Image small = Resize(image, width, height, ResizeFilter::kBox);
  const std::vector<int> columns = NearestPlaces(width, image.width);
  Image large{image.width, image.height, {}};
  large.rgb.reserve(image.rgb.size());
  for (const int y : NearestPlaces(height, image.height)) {
    for (const int x : columns) {
      const auto from = small.rgb.begin() + 3 * (static_cast<ptrdiff_t>(y) * width + x);
      large.rgb.insert(large.rgb.end(), from, from + 3);
    }
  }
  return large;
}

absl::StatusOr<Image> JpegCompression(const Image& image, int severity) {
  constexpr std::array kQuality = {25, 18, 15, 10, 7};
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes,
                             EncodeJpeg(image, kQuality[static_cast<size_t>(severity - 1)]));
  return DecodeImage(bytes, "the corrupted image");
}

}  // namespace imageddpo
