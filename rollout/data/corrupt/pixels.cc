#include "rollout/data/corrupt/pixels.h"

#include <algorithm>
#include <cmath>

namespace imageddpo {
namespace {

std::vector<double> GaussianKernel(double sigma, double truncate) {
  const int radius = static_cast<int>(truncate * sigma + 0.5);  // NOLINT: cut, as scipy.
  std::vector<double> kernel;
  double sum = 0;
  for (int x = -radius; x <= radius; ++x) {
    kernel.push_back(std::exp(-0.5 / (sigma * sigma) * x * x));
    sum += kernel.back();
  }
  for (double& weight : kernel) weight /= sum;
  return kernel;
}

/// One axis of a separable filter; `step_x` and `step_y` are 1 and 0, or 0 and 1.
Pixels Filter(const Pixels& pixels, const std::vector<double>& kernel, int step_x, int step_y,
              Border border) {
  const int radius = static_cast<int>(kernel.size() / 2);
  Pixels result = Pixels::Zeros(pixels.width, pixels.height, pixels.channels);
  for (int y = 0; y < pixels.height; ++y) {
    for (int x = 0; x < pixels.width; ++x) {
      for (int k = -radius; k <= radius; ++k) {
        const int from_x = Inside(x + k * step_x, pixels.width, border);
        const int from_y = Inside(y + k * step_y, pixels.height, border);
        const double weight = kernel[static_cast<size_t>(k + radius)];
        for (int c = 0; c < pixels.channels; ++c) {
          result.at(x, y, c) += weight * pixels.at(from_x, from_y, c);
        }
      }
    }
  }
  return result;
}

/// The middle of an axis that is enlarged: where it starts, how long it is and becomes.
struct ZoomedAxis {
  ZoomedAxis(int size, double zoom)
      : part(static_cast<int>(std::ceil(size / zoom))),
        start((size - part) / 2),
        enlarged(static_cast<int>(std::nearbyint(part * zoom))) {}
  /// Where an enlarged position comes from, from the part's start.
  double From(int position) const {
    return enlarged > 1 ? position * (static_cast<double>(part - 1) / (enlarged - 1)) : 0.0;
  }
  /// Whether rounding has put a place behind the part's last one, which scipy takes for black.
  bool IsBeyond(double from) const { return from > part - 1; }
  int part, start, enlarged;
};

}  // namespace

Pixels Pixels::Zeros(int width, int height, int channels) {
  Pixels pixels{width, height, channels, {}};
  pixels.values.resize(static_cast<size_t>(width) * static_cast<size_t>(height) *
                       static_cast<size_t>(channels));
  return pixels;
}

Pixels Pixels::Of(const Image& image) {
  Pixels pixels = Zeros(image.width, image.height, 3);
  std::transform(image.rgb.begin(), image.rgb.end(), pixels.values.begin(),
                 [](uint8_t value) { return value / 255.0; });
  return pixels;
}

Image ToImage(const Pixels& pixels) {
  Image image{pixels.width, pixels.height, std::vector<uint8_t>(pixels.values.size())};
  std::transform(pixels.values.begin(), pixels.values.end(), image.rgb.begin(), [](double value) {
    return static_cast<uint8_t>(std::clamp(value, 0.0, 1.0) * 255);
  });
  return image;
}

int Inside(int position, int size, Border border) {
  if (position >= 0 && position < size) return position;
  if (border == Border::kNearest || size == 1) return std::clamp(position, 0, size - 1);
  const int period = border == Border::kReflect ? 2 * size : 2 * size - 2;
  int place = position % period;
  if (place < 0) place += period;
  return place < size ? place : (border == Border::kReflect ? period - 1 - place : period - place);
}

Pixels GaussianBlur(const Pixels& pixels, double sigma_x, double sigma_y, double truncate,
                    Border border) {
  Pixels result = pixels;
  if (sigma_y > 0) result = Filter(result, GaussianKernel(sigma_y, truncate), 0, 1, border);
  if (sigma_x > 0) result = Filter(result, GaussianKernel(sigma_x, truncate), 1, 0, border);
  return result;
}

Pixels ClippedZoom(const Pixels& pixels, double zoom) {
  const ZoomedAxis across(pixels.width, zoom), down(pixels.height, zoom);
  // The part is rounded up, so that it becomes no smaller than the whole was.
  Pixels result = Pixels::Zeros(std::max(pixels.width, across.enlarged),
                                std::max(pixels.height, down.enlarged), pixels.channels);
  for (int y = 0; y < down.enlarged; ++y) {
    const double from_y = down.From(y);
    const int y0 = static_cast<int>(from_y);
    const int y1 = std::min(y0 + 1, down.part - 1);
    const double weight_y = from_y - y0;
    for (int x = 0; x < across.enlarged; ++x) {
      const double from_x = across.From(x);
      const int x0 = static_cast<int>(from_x);
      const int x1 = std::min(x0 + 1, across.part - 1);
      const double weight_x = from_x - x0;
      if (across.IsBeyond(from_x) || down.IsBeyond(from_y)) continue;
      for (int c = 0; c < pixels.channels; ++c) {
        const auto value = [&](int px, int py) {
          return pixels.at(across.start + px, down.start + py, c);
        };
        const double upper = value(x0, y0) * (1 - weight_x) + value(x1, y0) * weight_x;
        const double lower = value(x0, y1) * (1 - weight_x) + value(x1, y1) * weight_x;
        result.at(x, y, c) = upper * (1 - weight_y) + lower * weight_y;
      }
    }
  }
  return result;
}

Pixels TopLeft(const Pixels& pixels, int width, int height) {
  Pixels part = Pixels::Zeros(width, height, pixels.channels);
  const auto row_values = static_cast<size_t>(width) * static_cast<size_t>(pixels.channels);
  for (int y = 0; y < height; ++y) {
    std::copy_n(pixels.values.begin() + static_cast<ptrdiff_t>(pixels.index(0, y)), row_values,
                part.values.begin() + static_cast<ptrdiff_t>(part.index(0, y)));
  }
  return part;
}

Pixels MotionBlur(const Pixels& pixels, int radius, double sigma, double degrees) {
  const int width = 2 * radius + 1;
  std::vector<double> kernel;
  double sum = 0;
  for (int i = 0; i < width; ++i) {
    kernel.push_back(std::exp(-i * i / (2 * sigma * sigma)));
    sum += kernel.back();
  }
  const double angle = degrees * M_PI / 180;
  Pixels result = Pixels::Zeros(pixels.width, pixels.height, pixels.channels);
  for (int i = 0; i < width; ++i) {
    const int dy = -static_cast<int>(std::ceil(i * std::sin(angle) - 0.5));
    const int dx = -static_cast<int>(std::ceil(i * std::cos(angle) - 0.5));
    if (std::abs(dy) >= pixels.height || std::abs(dx) >= pixels.width) break;
    const double weight = kernel[static_cast<size_t>(i)] / sum;
    for (int y = 0; y < pixels.height; ++y) {
      const int from_y = Inside(y - dy, pixels.height, Border::kNearest);
      for (int x = 0; x < pixels.width; ++x) {
        const int from_x = Inside(x - dx, pixels.width, Border::kNearest);
        for (int c = 0; c < pixels.channels; ++c) {
          result.at(x, y, c) += weight * pixels.at(from_x, from_y, c);
        }
      }
    }
  }
  return result;
}

}  // namespace imageddpo
