#include "common/io/codec/orientation.h"

#include <bit>
#include <cmath>
#include <cstdint>

namespace imageddpo {
namespace {

constexpr uint64_t kOrientationTag = 0x0112;
constexpr size_t kEntryBytes = 12;

/// Numbers of a TIFF block in its own byte order.
class TiffBlock {
 public:
  TiffBlock(std::string_view bytes, bool little_endian)
      : bytes_(bytes), little_endian_(little_endian) {}

  bool Has(size_t offset, size_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }

  /// 0 beyond the end.
  uint64_t Read(size_t offset, size_t size) const {
    if (!Has(offset, size)) return 0;
    uint64_t value = 0;
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

size_t BytesOfType(uint64_t type) {
  switch (type) {
    case 1:  // BYTE
    case 2:  // ASCII
    case 6:  // SBYTE
    case 7:  // UNDEFINED
      return 1;
    case 3:  // SHORT
    case 8:  // SSHORT
      return 2;
    case 4:   // LONG
    case 9:   // SLONG
    case 11:  // FLOAT
    case 13:  // IFD
      return 4;
    case 5:   // RATIONAL
    case 10:  // SRATIONAL
    case 12:  // DOUBLE
      return 8;
    default:
      return 0;
  }
}

/// The first number at an offset; 0 for types that are no numbers.
double NumberAt(const TiffBlock& block, uint64_t type, size_t offset) {
  switch (type) {
    case 3:
      return static_cast<double>(block.Read(offset, 2));
    case 4:
    case 13:
      return static_cast<double>(block.Read(offset, 4));
    case 5:
    case 10:
      return static_cast<double>(block.Read(offset, 4)) /
             static_cast<double>(block.Read(offset + 4, 4));
    case 6:
      return static_cast<int8_t>(block.Read(offset, 1));
    case 8:
      return static_cast<int16_t>(block.Read(offset, 2));
    case 9:
      return static_cast<int32_t>(block.Read(offset, 4));
    case 11:
      return std::bit_cast<float>(static_cast<uint32_t>(block.Read(offset, 4)));
    case 12:
      return std::bit_cast<double>(block.Read(offset, 8));
    default:
      return 0;
  }
}

int ValidOrientation(double value) {
  return value >= 1 && value <= 8 && value == std::floor(value) ? static_cast<int>(value) : 1;
}

}  // namespace

std::optional<int> ExifOrientation(std::string_view exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  while (exif.starts_with(kPrefix)) exif.remove_prefix(kPrefix.size());
  const bool little_endian = exif.starts_with("II");
  if (!little_endian && !exif.starts_with("MM")) return std::nullopt;
  const TiffBlock block(exif, little_endian);
  const uint64_t magic = block.Read(2, 2);
  if (!block.Has(0, 8) || (magic != 42 && magic != 42 << 8)) return std::nullopt;
  const size_t directory = block.Read(4, 4);
  const size_t num_entries = block.Read(directory, 2);
  std::optional<int> found;  // The last one counts.
  for (size_t i = 0; i < num_entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (!block.Has(entry, kEntryBytes)) break;
    if (block.Read(entry, 2) != kOrientationTag) continue;
    const uint64_t type = block.Read(entry + 2, 2);
    const uint64_t size = BytesOfType(type) * block.Read(entry + 4, 4);
    const size_t value = size > 4 ? block.Read(entry + 8, 4) : entry + 8;
    if (size == 0 || !block.Has(value, size)) continue;
    found = ValidOrientation(NumberAt(block, type, value));
  }
  return found;
}

std::optional<int> XmpOrientation(std::string_view xmp) {
  constexpr std::string_view kKey = "tiff:Orientation";
  for (size_t at = xmp.find(kKey); at != std::string_view::npos; at = xmp.find(kKey, at + 1)) {
    std::string_view rest = xmp.substr(at + kKey.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return ValidOrientation(rest[0] - '0');
  }
  return std::nullopt;
}

int OrientationOf(std::string_view exif, std::string_view xmp) {
  const std::optional<int> from_exif = ExifOrientation(exif);
  return from_exif ? *from_exif : XmpOrientation(xmp).value_or(1);
}

}  // namespace imageddpo
