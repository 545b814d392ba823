#pragma once

#include <cstddef>
#include <vector>

#include "common/io/image.h"

namespace imageddpo {

/// Samples in rows from the top, channels interleaved; of an image: 0 to 1.
struct Pixels {
  int width = 0;
  int height = 0;
  int channels = 3;
  std::vector<double> values;

  static Pixels Zeros(int width, int height, int channels);
  static Pixels Of(const Image& image);  ///< Value / 255.

  size_t index(int x, int y, int channel = 0) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) *
               static_cast<size_t>(channels) +
           static_cast<size_t>(channel);
  }
  double& at(int x, int y, int channel = 0) { return values[index(x, y, channel)]; }
  double at(int x, int y, int channel = 0) const { return values[index(x, y, channel)]; }
};

/// Clamped to 0 to 1, times 255, cut to whole numbers, as imagecorruptions converts to uint8.
Image ToImage(const Pixels& pixels);

/// Which values continue an axis beyond its ends.
enum class Border {
  kNearest,     ///< a a | a b c | c c
  kReflect,     ///< b a | a b c | c b
  kReflect101,  ///< c b | a b c | b a
};

/// The position within an axis of `size` that a position beyond it repeats.
int Inside(int position, int size, Border border);

/// scipy's gaussian_filter: the kernel reaches truncate · sigma, rounded, each way. A sigma of 0
/// leaves its axis as it is.
Pixels GaussianBlur(const Pixels& pixels, double sigma_x, double sigma_y, double truncate,
                    Border border);

/// The middle 1/zoom of the pixels, enlarged linearly to the old size or up to zoom pixels more:
/// imagecorruptions' clipped_zoom.
Pixels ClippedZoom(const Pixels& pixels, double zoom);

/// The top left part of that size.
/// @param width,height  at most those of the pixels.
Pixels TopLeft(const Pixels& pixels, int width, int height);

/// imagecorruptions' motion blur: half of a Gaussian along a line. Pixels that come from beyond an
/// edge have the value at it.
/// @param degrees  direction of the line.
Pixels MotionBlur(const Pixels& pixels, int radius, double sigma, double degrees);

}  // namespace imageddpo
