#include <cstdint>
#include <string_view>
#include <utility>

#include "common/io/image_codecs.h"

namespace imageddpo {
namespace {

constexpr uint16_t kOrientationTag = 0x0112;
constexpr uint16_t kShortType = 3;
constexpr size_t kEntryBytes = 12;

/// Bounds-checked reads of a TIFF block in its own byte order; 0 beyond the end.
class TiffReader {
 public:
  TiffReader(std::string_view bytes, bool little_endian)
      : bytes_(bytes), little_endian_(little_endian) {}

  uint32_t Read(size_t offset, size_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t at = offset + (little_endian_ ? size - 1 - i : i);
      value = value << 8 | static_cast<uint8_t>(bytes_[at]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool little_endian_;
};

}  // namespace

int ExifOrientation(std::string_view tiff) {
  if (tiff.size() < 8) return 1;
  const std::string_view byte_order = tiff.substr(0, 2);
  if (byte_order != "II" && byte_order != "MM") return 1;
  const TiffReader reader(tiff, byte_order == "II");
  const size_t directory = reader.Read(4, 4);
  const size_t num_entries = reader.Read(directory, 2);
  for (size_t i = 0; i < num_entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (reader.Read(entry, 2) != kOrientationTag || reader.Read(entry + 2, 2) != kShortType)
      continue;
    const uint32_t value = reader.Read(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

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
