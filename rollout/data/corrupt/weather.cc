#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "rollout/data/corrupt/kinds.h"
#include "rollout/data/corrupt/pixels.h"

namespace imageddpo {
namespace {

/// Heights between 0 and 1 on a square of 2^n a side by the diamond-square algorithm, which repeats
/// at its edges.
class PlasmaFractal {
 public:
  PlasmaFractal(int side, double decay, CorruptRandom& random)
      : side_(side), heights_(Pixels::Zeros(side, side, 1)), random_(random) {
    for (int step = side; step >= 2; step /= 2) {
      FillSquares(step);
      FillDiamonds(step);
      wibble_ /= decay;
    }
    const auto [least, most] = std::minmax_element(heights_.values.begin(), heights_.values.end());
    const double low = *least, range = *most - *least;
    for (double& height : heights_.values) height = range > 0 ? (height - low) / range : 0.0;
  }

  double at(int x, int y) const { return heights_.at(x, y); }

 private:
  double& At(int x, int y) { return heights_.at((x + side_) % side_, (y + side_) % side_); }

  double Wibbled(double sum) { return sum / 4 + wibble_ * random_.Uniform(-wibble_, wibble_); }

  void FillSquares(int step) {
    for (int y = 0; y < side_; y += step) {
      for (int x = 0; x < side_; x += step) {
        At(x + step / 2, y + step / 2) =
            Wibbled(At(x, y) + At(x + step, y) + At(x, y + step) + At(x + step, y + step));
      }
    }
  }

  void FillDiamonds(int step) {
    const int half = step / 2;
    const auto fill = [&](int first_x, int first_y) {
      for (int y = first_y; y < side_; y += step) {
        for (int x = first_x; x < side_; x += step) {
          At(x, y) = Wibbled(At(x - half, y) + At(x + half, y) + At(x, y - half) + At(x, y + half));
        }
      }
    };
    fill(half, 0);
    fill(0, half);
  }

  const int side_;
  double wibble_ = 100;
  Pixels heights_;
  CorruptRandom& random_;
};

struct Hsv {
  double hue, saturation, value;
};

Hsv ToHsv(const double* rgb) {
  const double most = std::max({rgb[0], rgb[1], rgb[2]});
  const double range = most - std::min({rgb[0], rgb[1], rgb[2]});
  if (range == 0) return {0, 0, most};
  double hue = 0;
  if (rgb[0] == most) hue = (rgb[1] - rgb[2]) / range;
  if (rgb[1] == most) hue = 2 + (rgb[2] - rgb[0]) / range;
  if (rgb[2] == most) hue = 4 + (rgb[0] - rgb[1]) / range;
  hue /= 6;
  return {hue - std::floor(hue), range / most, most};
}

void FromHsv(const Hsv& hsv, double* rgb) {
  const double sector = std::floor(hsv.hue * 6);
  const double part = hsv.hue * 6 - sector;
  const double v = hsv.value;
  const double p = v * (1 - hsv.saturation);
  const double q = v * (1 - part * hsv.saturation);
  const double t = v * (1 - (1 - part) * hsv.saturation);
  const std::array<std::array<double, 3>, 6> sectors = {
      {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}}};
  std::copy_n(sectors[static_cast<size_t>(sector) % 6].begin(), 3, rgb);
}

}  // namespace

Image Snow(const Image& image, int severity, CorruptRandom& random) {
  struct Flakes {
    double mean, deviation, zoom, threshold;
    int radius;
    double sigma, clean;
  };
  constexpr std::array<Flakes, 5> kFlakes = {{{.1, .3, 3, .5, 10, 4, .8},
                                              {.2, .3, 2, .5, 12, 4, .7},
                                              {.55, .3, 4, .9, 12, 8, .7},
                                              {.55, .3, 4.5, .85, 12, 8, .65},
                                              {.55, .3, 2.5, .85, 12, 12, .55}}};
  const Flakes& flakes = kFlakes[static_cast<size_t>(severity - 1)];
  Pixels layer = Pixels::Zeros(image.width, image.height, 1);
  for (double& value : layer.values) value = flakes.mean + flakes.deviation * random.Normal();
  layer = ClippedZoom(layer, flakes.zoom);
  for (double& value : layer.values) {
    value = value < flakes.threshold ? 0.0 : std::clamp(value, 0.0, 1.0);
  }
  // Flakes beyond the right edge of the image move into it: it is cut out afterwards.
  layer = MotionBlur(layer, flakes.radius, flakes.sigma, random.Uniform(-135, -45));
  layer = TopLeft(layer, image.width, image.height);
  for (double& value : layer.values) value = std::nearbyint(value * 255) / 255;

  Pixels pixels = Pixels::Of(image);
  const size_t num_pixels = layer.values.size();
  for (size_t i = 0; i < num_pixels; ++i) {
    double* rgb = &pixels.values[3 * i];
    const double grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    // Snow lies on the image and on it turned by half a circle.
    const double snow = layer.values[i] + layer.values[num_pixels - 1 - i];
    for (size_t c = 0; c < 3; ++c) {
      const double whitened = std::max(rgb[c], grey * 1.5 + 0.5);
      rgb[c] = flakes.clean * rgb[c] + (1 - flakes.clean) * whitened + snow;
    }
  }
  return ToImage(pixels);
}

Image Fog(const Image& image, int severity, CorruptRandom& random) {
  struct Thickness {
    double weight, decay;
  };
  constexpr std::array<Thickness, 5> kThickness = {
      {{1.5, 2}, {2, 2}, {2.5, 1.7}, {2.5, 1.5}, {3, 1.4}}};
  const Thickness& fog = kThickness[static_cast<size_t>(severity - 1)];
  const auto longest = static_cast<unsigned>(std::max({image.width, image.height, 3}));
  const PlasmaFractal map(static_cast<int>(std::bit_ceil(longest)), fog.decay, random);
  Pixels pixels = Pixels::Of(image);
  const double most = *std::max_element(pixels.values.begin(), pixels.values.end());
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        double& value = pixels.at(x, y, c);
        value = (value + fog.weight * map.at(x, y)) * most / (most + fog.weight);
      }
    }
  }
  return ToImage(pixels);
}

Image Brightness(const Image& image, int severity) {
  constexpr std::array kLift = {.1, .2, .3, .4, .5};
  const double lift = kLift[static_cast<size_t>(severity - 1)];
  Pixels pixels = Pixels::Of(image);
  for (size_t i = 0; i < pixels.values.size(); i += 3) {
    Hsv hsv = ToHsv(&pixels.values[i]);
    hsv.value = std::clamp(hsv.value + lift, 0.0, 1.0);
    FromHsv(hsv, &pixels.values[i]);
  }
  return ToImage(pixels);
}

Image Contrast(const Image& image, int severity) {
  constexpr std::array kShare = {.4, .3, .2, .1, .05};
  const double share = kShare[static_cast<size_t>(severity - 1)];
  Pixels pixels = Pixels::Of(image);
  std::array<double, 3> means = {};
  for (size_t i = 0; i < pixels.values.size(); ++i) means[i % 3] += pixels.values[i];
  for (double& mean : means) mean /= static_cast<double>(image.width) * image.height;
  for (size_t i = 0; i < pixels.values.size(); ++i) {
    pixels.values[i] = (pixels.values[i] - means[i % 3]) * share + means[i % 3];
  }
  return ToImage(pixels);
}

}  // namespace imageddpo
