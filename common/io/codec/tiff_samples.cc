#include "common/io/codec/tiff_samples.h"

#include <tiff.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

/// A sample in 8 bits: the high byte of 16, and 1, 2 or 4 bits stretched, unless it is an index.
uint8_t SampleAt(const TiffLayout& layout, const uint8_t* samples, size_t position) {
  switch (layout.bits) {
    case 8:
      return samples[position];
    case 16: {
      uint16_t value;
      std::memcpy(&value, samples + 2 * position, 2);
      return static_cast<uint8_t>(value >> 8);
    }
    default: {
      const size_t bit = position * layout.bits;
      const int most = (1 << layout.bits) - 1;
      const int value = samples[bit / 8] >> (8 - layout.bits - bit % 8) & most;
      const bool index = layout.photometric == PHOTOMETRIC_PALETTE;
      return static_cast<uint8_t>(index ? value : value * 255 / most);
    }
  }
}

}  // namespace

uint16_t TiffLayout::colour_samples() const {
  if (photometric == PHOTOMETRIC_RGB) return 3;
  return photometric == PHOTOMETRIC_SEPARATED ? 4 : 1;
}

int TiffLayout::channels() const {
  return photometric == PHOTOMETRIC_PALETTE ? 3 : colour_samples();
}

absl::Status CheckTiffLayout(const TiffLayout& layout) {
  const auto refuse = [](const auto&... parts) {
    return absl::InvalidArgumentError(
        absl::StrCat(parts..., " not read; convert it to RGB with 8 or 16 bits"));
  };
  switch (layout.photometric) {
    case PHOTOMETRIC_MINISWHITE:
    case PHOTOMETRIC_MINISBLACK:
    case PHOTOMETRIC_RGB:
    case PHOTOMETRIC_PALETTE:
    case PHOTOMETRIC_SEPARATED:
      break;
    case PHOTOMETRIC_CIELAB:
    case PHOTOMETRIC_ICCLAB:
    case PHOTOMETRIC_ITULAB:
      return refuse("Lab colours are");
    default:
      return refuse("its kind of colours (", layout.photometric, ") is");
  }
  if (layout.sample_format == SAMPLEFORMAT_IEEEFP) return refuse("floating point samples are");
  if (layout.sample_format != SAMPLEFORMAT_UINT && layout.sample_format != SAMPLEFORMAT_VOID) {
    return refuse("samples of format ", layout.sample_format, " are");
  }
  const bool small = layout.bits == 1 || layout.bits == 2 || layout.bits == 4;
  const bool one_sample = layout.colour_samples() == 1;
  const bool index = layout.photometric == PHOTOMETRIC_PALETTE;
  if (layout.bits != 8 && !(layout.bits == 16 && !index) && !(small && one_sample)) {
    return refuse("samples of ", layout.bits, " bits are");
  }
  if (layout.samples < layout.used_samples()) {
    return absl::InvalidArgumentError("it has fewer samples a pixel than its colours need");
  }
  return absl::OkStatus();
}

void PutTiffRow(const TiffLayout& layout, const uint8_t* samples, const TiffRow& row,
                RawPicture& picture) {
  const uint16_t colours = layout.colour_samples();
  const auto channels = static_cast<size_t>(picture.channels);
  const size_t step = layout.separate ? 1 : layout.samples;
  uint8_t* target = picture.row(row.y) + row.x * channels;
  for (size_t x = 0; x < row.width; ++x, target += channels) {
    if (layout.photometric == PHOTOMETRIC_PALETTE) {
      if (row.plane == 0) {
        std::copy_n(layout.palette[SampleAt(layout, samples, x * step)].begin(), 3, target);
      }
      continue;
    }
    const uint16_t first = layout.separate ? row.plane : 0;
    const uint16_t last = layout.separate ? first + 1 : colours;
    for (uint16_t c = first; c < std::min(last, colours); ++c) {
      const uint8_t value = SampleAt(layout, samples, x * step + (layout.separate ? 0 : c));
      target[c] = layout.photometric == PHOTOMETRIC_MINISWHITE ? 255 - value : value;
    }
    // Alpha comes last, in a plane of its own where planes are separate.
    if (!layout.associated_alpha || (layout.separate && row.plane != colours)) continue;
    const int alpha = SampleAt(layout, samples, x * step + (layout.separate ? 0 : colours));
    for (uint16_t c = 0; c < colours && alpha != 255; ++c) {
      target[c] = alpha == 0 ? 0 : static_cast<uint8_t>(std::min(target[c] * 255 / alpha, 255));
    }
  }
}

}  // namespace imageddpo
