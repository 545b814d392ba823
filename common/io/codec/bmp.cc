#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/raw_picture.h"

// Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits, plain, with bit masks and RLE-compressed.
// (Microsoft's BITMAPINFOHEADER and its successors.)
namespace imageddpo {
namespace {

enum Compression : uint32_t { kPlain = 0, kRle8 = 1, kRle4 = 2, kMasks = 3 };

constexpr size_t kFileHeaderBytes = 14;

absl::Status Bad(const std::string& why) { return absl::InvalidArgumentError(why); }

/// The bits of one channel in a pixel, and their scale to 8 bits.
struct Channel {
  explicit Channel(uint32_t mask)
      : shift(mask == 0 ? 0 : std::countr_zero(mask)), most(mask >> shift), mask(mask) {}
  uint8_t Of(uint32_t pixel) const {
    if (most == 0) return 0;
    return static_cast<uint8_t>(uint64_t{(pixel & mask) >> shift} * 255 / most);
  }
  int shift;
  uint32_t most;
  uint32_t mask;
};

struct Header {
  int64_t width = 0, height = 0;
  bool from_top = false;
  uint32_t bits = 0, compression = kPlain, num_colours = 0;
  size_t colour_bytes = 4, palette_at = 0, pixels_at = 0;
  std::array<uint32_t, 3> masks = {};  ///< Red, green, blue.
};

class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : bytes_(bytes) {}
  size_t size() const { return bytes_.size(); }
  bool Has(size_t offset, size_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }
  uint8_t operator[](size_t at) const { return static_cast<uint8_t>(bytes_[at]); }
  uint32_t Read(size_t offset, size_t size) const {  ///< 0 beyond the end.
    uint32_t value = 0;
    if (!Has(offset, size)) return 0;
    for (size_t i = size; i > 0; --i) value = value << 8 | (*this)[offset + i - 1];
    return value;
  }

 private:
  std::string_view bytes_;
};

absl::StatusOr<Header> ReadHeader(const Bytes& file) {
  if (!file.Has(0, kFileHeaderBytes + 12)) return Bad("the file is truncated");
  Header header;
  const uint32_t size = file.Read(kFileHeaderBytes, 4);
  const auto field = [&](size_t offset, size_t bytes) {
    return file.Read(kFileHeaderBytes + offset, bytes);
  };
  header.pixels_at = file.Read(10, 4);
  header.palette_at = kFileHeaderBytes + size;
  if (size == 12) {
    header.width = field(4, 2);
    header.height = field(6, 2);
    header.bits = field(10, 2);
    header.colour_bytes = 3;
  } else if (size == 40 || size == 52 || size == 56 || size == 64 || size == 108 || size == 124) {
    if (!file.Has(kFileHeaderBytes, size)) return Bad("the file is truncated");
    const auto height = static_cast<int32_t>(field(8, 4));
    header.width = static_cast<int32_t>(field(4, 4));
    header.from_top = height < 0;
    header.height = header.from_top ? -int64_t{height} : height;
    header.bits = field(14, 2);
    header.compression = field(16, 4);
    header.num_colours = field(32, 4);
    if (header.compression == kMasks) {
      if (size == 40) header.palette_at += 12;  // They follow the header.
      for (size_t i = 0; i < 3; ++i) header.masks[i] = field(40 + 4 * i, 4);
    }
  } else {
    return Bad(absl::StrCat("its header of ", size, " bytes is of an unknown kind"));
  }
  if (header.num_colours == 0 && header.bits <= 8) header.num_colours = 1U << header.bits;
  if (header.pixels_at == kFileHeaderBytes + size && header.bits <= 8) {
    header.pixels_at += header.colour_bytes * header.num_colours;  // Where programs forgot it.
  }
  if (header.pixels_at == 0) header.pixels_at = header.palette_at;
  return header;
}

absl::Status CheckHeader(const Header& header) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImageSize(header.width, header.height));
  const uint32_t bits = header.bits;
  const bool indexed = bits == 1 || bits == 4 || bits == 8;
  if (!indexed && bits != 16 && bits != 24 && bits != 32) {
    return Bad(absl::StrCat("pixels of ", bits, " bits are not read"));
  }
  const bool known = header.compression == kPlain || (header.compression == kRle8 && bits == 8) ||
                     (header.compression == kRle4 && bits == 4) ||
                     (header.compression == kMasks && !indexed);
  if (!known) {
    return Bad(
        absl::StrCat("compression ", header.compression, " of ", bits, "-bit pixels is not read"));
  }
  if (indexed && header.num_colours > 65536) return Bad("its palette is too large");
  return absl::OkStatus();
}

/// Colours that the palette lacks are greys, as PIL has it.
std::array<std::array<uint8_t, 3>, 256> ReadPalette(const Bytes& file, const Header& header) {
  std::array<std::array<uint8_t, 3>, 256> palette;
  for (size_t i = 0; i < palette.size(); ++i) {
    palette[i].fill(static_cast<uint8_t>(i));
    const size_t at = header.palette_at + i * header.colour_bytes;
    if (i < header.num_colours && file.Has(at, 3)) {
      palette[i] = {file[at + 2], file[at + 1], file[at]};
    }
  }
  return palette;
}

/// The indices of an RLE-compressed picture, in the order of the file's rows.
absl::StatusOr<std::vector<uint8_t>> ReadRle(const Bytes& file, const Header& header) {
  const auto width = static_cast<size_t>(header.width);
  const size_t total = width * static_cast<size_t>(header.height);
  const bool nibbles = header.compression == kRle4;
  std::vector<uint8_t> indices(total);
  size_t at = header.pixels_at, done = 0;
  const auto index_of = [nibbles](uint8_t byte, size_t i) -> uint8_t {
    if (!nibbles) return byte;
    return i % 2 == 0 ? byte >> 4 : byte & 15;
  };
  while (done < total) {
    if (!file.Has(at, 2)) return Bad("the file is truncated");
    const size_t count = file[at];
    const uint8_t value = file[at + 1];
    at += 2;
    const size_t left_in_row = width - done % width;
    if (count > 0) {
      for (size_t i = 0; i < std::min(count, left_in_row); ++i)
        indices[done++] = index_of(value, i);
    } else if (value == 0) {  // The row's end; nothing more where the row is full.
      if (done % width != 0) done += left_in_row;
    } else if (value == 1) {  // The picture's end.
      break;
    } else if (value == 2) {  // A step to the right and down the file's rows.
      if (!file.Has(at, 2)) return Bad("the file is truncated");
      done = std::min(total, done + file[at] + file[at + 1] * width);
      at += 2;
    } else {  // So many pixels as they are, padded to a whole 16 bits.
      const size_t pixels = std::min<size_t>(value, total - done);
      const size_t bytes = nibbles ? (size_t{value} + 1) / 2 : value;
      if (!file.Has(at, nibbles ? (pixels + 1) / 2 : pixels)) return Bad("the file is truncated");
      for (size_t i = 0; i < pixels; ++i) {
        indices[done++] = index_of(file[at + (nibbles ? i / 2 : i)], i);
      }
      at += bytes + bytes % 2;
    }
  }
  return indices;
}

/// One row of unpacked pixels.
/// @param masks  of the channels of pixels of 16, 24 or 32 bits.
void ReadRow(const Bytes& file, size_t at, const Header& header,
             const std::array<std::array<uint8_t, 3>, 256>& palette,
             const std::array<Channel, 3>& channels, uint8_t* rgb) {
  const size_t bits = header.bits;
  for (size_t x = 0; x < static_cast<size_t>(header.width); ++x, rgb += 3) {
    if (bits <= 8) {
      const size_t bit = x * bits;
      const size_t index = file[at + bit / 8] >> (8 - bits - bit % 8) & ((size_t{1} << bits) - 1);
      std::copy_n(palette[index].begin(), 3, rgb);
    } else {
      const uint32_t pixel = file.Read(at + x * bits / 8, bits / 8);
      for (size_t c = 0; c < 3; ++c) rgb[c] = channels[c].Of(pixel);
    }
  }
}

std::array<Channel, 3> ChannelsOf(const Header& header) {
  std::array<uint32_t, 3> masks = {0xFF0000, 0xFF00, 0xFF};
  if (header.bits == 16) masks = {0x7C00, 0x3E0, 0x1F};
  const bool given =
      header.compression == kMasks && (header.masks[0] | header.masks[1] | header.masks[2]) != 0;
  if (given) masks = header.masks;
  return {Channel(masks[0]), Channel(masks[1]), Channel(masks[2])};
}

}  // namespace

absl::StatusOr<RawPicture> DecodeBmp(std::string_view bytes) {
  const Bytes file(bytes);
  IMAGEDDPO_ASSIGN_OR_RETURN(const Header header, ReadHeader(file));
  IMAGEDDPO_RETURN_IF_ERROR(CheckHeader(header));
  const auto width = static_cast<size_t>(header.width);
  const auto height = static_cast<size_t>(header.height);
  const bool rle = header.compression == kRle4 || header.compression == kRle8;
  const size_t row_bytes = (width * header.bits + 7) / 8;
  const size_t stride = (width * header.bits + 31) / 32 * 4;
  if (!rle && !file.Has(header.pixels_at, stride * (height - 1) + row_bytes)) {
    return Bad("the file is truncated");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture, MakePicture(header.width, header.height, 3));
  const auto palette = ReadPalette(file, header);
  const std::array<Channel, 3> channels = ChannelsOf(header);
  std::vector<uint8_t> indices;
  if (rle) {
    IMAGEDDPO_ASSIGN_OR_RETURN(indices, ReadRle(file, header));
  }
  for (size_t y = 0; y < height; ++y) {
    uint8_t* row = picture.row(header.from_top ? y : height - 1 - y);
    if (!rle) {
      ReadRow(file, header.pixels_at + y * stride, header, palette, channels, row);
      continue;
    }
    for (size_t x = 0; x < width; ++x) {
      std::copy_n(palette[indices[y * width + x]].begin(), 3, row + 3 * x);
    }
  }
  return picture;
}

}  // namespace imageddpo
