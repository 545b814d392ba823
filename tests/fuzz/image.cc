// Pictures of all formats: header and pixels.
#include "common/io/image.h"

#include "common/io/image_probe.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() { return {}; }

void Read(std::string_view input) {
  // Larger ones are read, too, but take a second each.
  constexpr int64_t kMostPixels = 1 << 20;
  const MemoryFile file(input);
  const auto header = ProbeImage(file.path());
  if (header.ok() && int64_t{header->width} * header->height > kMostPixels) return;
  const auto image = DecodeImage(input, "input");
  if (!image.ok()) return;
  Require(image->width > 0 && image->height > 0, "a picture has pixels");
  Require(image->rgb.size() ==
              size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height),
          "a picture has as many values as its size says");
  if (!header.ok()) return;
  Require((header->width == image->width && header->height == image->height) ||
              (header->width == image->height && header->height == image->width),
          "the header tells the picture's size");
}

}  // namespace imageddpo::fuzz
