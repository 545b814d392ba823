#include <cstddef>

#include "common/io/image_internal.h"

namespace imageddpo {
Image ApplyOrientation(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  // Orientations 5 to 8 exchange rows and columns; of what is stored, the seen image's
  // left-to-right then runs along y.
  const bool transposed = orientation >= 5;
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image seen;
  seen.width = transposed ? image.height : image.width;
  seen.height = transposed ? image.width : image.height;
  seen.rgb.resize(image.rgb.size());
  for (int y = 0; y < seen.height; ++y) {
    for (int x = 0; x < seen.width; ++x) {
      int from_x = transposed ? y : x;
      int from_y = transposed ? x : y;
      if (mirror_x) from_x = image.width - 1 - from_x;
      if (mirror_y) from_y = image.height - 1 - from_y;
      const size_t from = (static_cast<size_t>(from_y) * static_cast<size_t>(image.width) +
                           static_cast<size_t>(from_x)) *
                          3;
      const size_t to =
          (static_cast<size_t>(y) * static_cast<size_t>(seen.width) + static_cast<size_t>(x)) * 3;
      for (size_t channel = 0; channel < 3; ++channel)
        seen.rgb[to + channel] = image.rgb[from + channel];
    }
  }
  return seen;
}

}  // namespace imageddpo
