#pragma once

#include <cstdint>

namespace imageddpo {

/// Pixels, or latent pixels, across and down. 0 and 0: not given.
struct PictureSize {
  int64_t width = 0;
  int64_t height = 0;

  bool given() const { return width != 0 || height != 0; }
  int64_t area() const { return width * height; }
  bool IsMultipleOf(int64_t factor) const { return width % factor == 0 && height % factor == 0; }
  PictureSize DividedBy(int64_t factor) const { return {width / factor, height / factor}; }
  bool operator==(const PictureSize&) const = default;
};

/// How a picture of another shape gets a size; bicubic.
enum class ResizeMode {
  kCrop,    ///< Scaled until it covers the size; the middle is cut out.
  kPad,     ///< Scaled until it fits in; black on both sides of it, as PIL's ImageOps.pad.
  kStretch  ///< Scaled to the size, whatever its shape.
};

}  // namespace imageddpo
