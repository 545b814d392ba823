#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "rollout/data/corrupt/kinds.h"
#include "rollout/data/corrupt/pixels.h"

namespace imageddpo {
namespace {

/// A disk whose edge is smoothed by a Gaussian of a few pixels, in 32-bit floats.
Pixels Disk(int radius, double edge_sigma) {
  const int reach = std::max(radius, 8);
  const int smoothing = radius <= 8 ? 1 : 2;  // The Gaussian's pixels each way.
  Pixels disk = Pixels::Zeros(2 * reach + 1, 2 * reach + 1, 1);
  double sum = 0;
  for (int y = -reach; y <= reach; ++y) {
    for (int x = -reach; x <= reach; ++x) {
      if (x * x + y * y > radius * radius) continue;
      disk.at(x + reach, y + reach) = 1;
      sum += 1;
    }
  }
  for (double& value : disk.values) value = static_cast<float>(value / sum);
  return GaussianBlur(disk, edge_sigma, edge_sigma, smoothing / edge_sigma, Border::kReflect101);
}

}  // namespace

Image DefocusBlur(const Image& image, int severity) {
  struct Lens {
    int radius;
    double edge_sigma;
  };
  constexpr std::array<Lens, 5> kLenses = {{{3, .1}, {4, .5}, {6, .5}, {8, .5}, {10, .5}}};
  const Lens& lens = kLenses[static_cast<size_t>(severity - 1)];
  const Pixels disk = Disk(lens.radius, lens.edge_sigma);
  const int reach = disk.width / 2;
  const Pixels pixels = Pixels::Of(image);
  Pixels blurred = Pixels::Zeros(image.width, image.height, 3);
  for (int dy = -reach; dy <= reach; ++dy) {
    for (int dx = -reach; dx <= reach; ++dx) {
      const double weight = disk.at(dx + reach, dy + reach);
      if (weight == 0) continue;
      for (int y = 0; y < image.height; ++y) {
        const int from_y = Inside(y + dy, image.height, Border::kReflect101);
        for (int x = 0; x < image.width; ++x) {
          const size_t from =
              pixels.index(Inside(x + dx, image.width, Border::kReflect101), from_y);
          const size_t to = blurred.index(x, y);
          for (size_t c = 0; c < 3; ++c) blurred.values[to + c] += weight * pixels.values[from + c];
        }
      }
    }
  }
  return ToImage(blurred);
}

Image GlassBlur(const Image& image, int severity, CorruptRandom& random) {
  struct Glass {
    double sigma;
    int most, rounds;
  };
  constexpr std::array<Glass, 5> kGlasses = {
      {{.7, 1, 2}, {.9, 2, 1}, {1, 2, 3}, {1.1, 3, 2}, {1.5, 4, 2}}};
  constexpr double kTruncate = 4;
  const Glass& glass = kGlasses[static_cast<size_t>(severity - 1)];
  Image shuffled = ToImage(
      GaussianBlur(Pixels::Of(image), glass.sigma, glass.sigma, kTruncate, Border::kNearest));
  const auto pixel = [&shuffled](int x, int y) {
    return shuffled.rgb.begin() + 3 * (static_cast<ptrdiff_t>(y) * shuffled.width + x);
  };
  for (int round = 0; round < glass.rounds; ++round) {
    for (int y = image.height - glass.most; y > glass.most; --y) {
      for (int x = image.width - glass.most; x > glass.most; --x) {
        const int from_x = x + random.Integer(-glass.most, glass.most);
        const int from_y = y + random.Integer(-glass.most, glass.most);
        // The package means to swap the two, but writes both from one view of the array.
        std::copy_n(pixel(from_x, from_y), 3, pixel(x, y));
      }
    }
  }
  return ToImage(
      GaussianBlur(Pixels::Of(shuffled), glass.sigma, glass.sigma, kTruncate, Border::kNearest));
}

Image CorruptByMotion(const Image& image, int severity, CorruptRandom& random) {
  struct Motion {
    int radius;
    double sigma;
  };
  constexpr std::array<Motion, 5> kMotions = {{{10, 3}, {15, 5}, {15, 8}, {15, 12}, {20, 15}}};
  const Motion& motion = kMotions[static_cast<size_t>(severity - 1)];
  const double angle = random.Uniform(-45, 45);
  return ToImage(MotionBlur(Pixels::Of(image), motion.radius, motion.sigma, angle));
}

Image ZoomBlur(const Image& image, int severity) {
  struct Zoom {
    double stop, step;
  };
  constexpr std::array<Zoom, 5> kZooms = {
      {{1.11, .01}, {1.16, .01}, {1.21, .02}, {1.26, .02}, {1.31, .03}}};
  const Zoom& zoom = kZooms[static_cast<size_t>(severity - 1)];
  // As numpy's arange counts and steps.
  const int num_layers = static_cast<int>(std::ceil((zoom.stop - 1) / zoom.step));
  const double step = (1 + zoom.step) - 1;
  Pixels sum = Pixels::Of(image);
  const Pixels pixels = sum;
  for (int i = 0; i < num_layers; ++i) {
    const Pixels layer = TopLeft(ClippedZoom(pixels, 1 + i * step), pixels.width, pixels.height);
    for (size_t k = 0; k < sum.values.size(); ++k) sum.values[k] += layer.values[k];
  }
  for (double& value : sum.values) value /= num_layers + 1;
  return ToImage(sum);
}

}  // namespace imageddpo
