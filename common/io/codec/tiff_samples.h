#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "common/io/codec/raw_picture.h"

// What the samples of a TIFF file mean, once they are unpacked.
namespace imageddpo {

struct TiffLayout {
  uint32_t width = 0, height = 0;
  uint16_t bits = 1;           ///< Of a sample.
  uint16_t samples = 1;        ///< Of a pixel, extra ones included.
  uint16_t photometric = 0;    ///< libtiff's PHOTOMETRIC_….
  uint16_t sample_format = 1;  ///< libtiff's SAMPLEFORMAT_….
  bool separate = false;       ///< A plane for each sample.
  bool associated_alpha =
      false;  ///< The first extra sample is alpha that colours were multiplied by.
  std::array<std::array<uint8_t, 3>, 256> palette = {};

  int channels() const;  ///< Of the picture.
  uint16_t colour_samples() const;
  /// How many of a pixel's samples are read: the colours and, where it has to be divided out,
  /// alpha.
  uint16_t used_samples() const {
    return static_cast<uint16_t>(colour_samples() + (associated_alpha ? 1 : 0));
  }
  uint64_t RowBytes(uint32_t pixels) const {
    return (uint64_t{pixels} * bits * (separate ? 1U : samples) + 7) / 8;
  }
};

/// INVALID_ARGUMENT, without the file's name, for kinds of samples that are not read.
absl::Status CheckTiffLayout(const TiffLayout& layout);

struct TiffRow {
  uint16_t plane = 0;  ///< 0 unless the planes are separate.
  uint32_t x = 0, y = 0, width = 0;
};

/// Puts a row of unpacked samples, 16-bit ones in the machine's byte order, into the picture.
void PutTiffRow(const TiffLayout& layout, const uint8_t* samples, const TiffRow& row,
                RawPicture& picture);

}  // namespace imageddpo
