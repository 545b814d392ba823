#include <algorithm>
#include <array>

#include "rollout/data/corrupt/kinds.h"
#include "rollout/data/corrupt/pixels.h"

namespace imageddpo {

Image GaussianNoise(const Image& image, int severity, CorruptRandom& random) {
  constexpr std::array kDeviation = {.08, .12, .18, .26, .38};
  const double deviation = kDeviation[static_cast<size_t>(severity - 1)];
  Pixels pixels = Pixels::Of(image);
  for (double& value : pixels.values) value += deviation * random.Normal();
  return ToImage(pixels);
}

Image ShotNoise(const Image& image, int severity, CorruptRandom& random) {
  constexpr std::array kPhotons = {60.0, 25.0, 12.0, 5.0, 3.0};
  const double photons = kPhotons[static_cast<size_t>(severity - 1)];
  Pixels pixels = Pixels::Of(image);
  for (double& value : pixels.values) value = random.Poisson(value * photons) / photons;
  return ToImage(pixels);
}

Image ImpulseNoise(const Image& image, int severity, CorruptRandom& random) {
  constexpr std::array kShare = {.03, .06, .09, .17, .27};
  const double share = kShare[static_cast<size_t>(severity - 1)];
  Image noisy = image;
  for (uint8_t& value : noisy.rgb) {
    if (random.Uniform() <= share) value = random.Uniform() <= 0.5 ? 255 : 0;
  }
  return noisy;
}

}  // namespace imageddpo
