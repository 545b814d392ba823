#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// Larger files and images are refused before any memory is taken for them.
inline constexpr size_t kMaxImageFileBytes = size_t{256} << 20;
inline constexpr int kMaxImageSide = 32768;
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 27;

/// INVALID_ARGUMENT naming a file over kMaxImageFileBytes.
absl::Status FileTooLarge(const std::string& name);

/// A picture as its file stores it, 8 bits a sample, alpha dropped (not blended).
struct RawPicture {
  int width = 0;
  int height = 0;
  int channels = 3;              ///< 1: grey; 3: RGB; 4: CMYK, 255 is full ink.
  std::vector<uint8_t> samples;  ///< Rows from the top, channels interleaved.
  std::string profile;           ///< ICC profile of the samples; empty: none.
  int orientation = 1;           ///< EXIF, 1 (as stored) to 8.

  size_t row_bytes() const { return static_cast<size_t>(width) * static_cast<size_t>(channels); }
  uint8_t* row(size_t y) { return samples.data() + y * row_bytes(); }
};

/// A picture of this size with all samples 0.
/// @return INVALID_ARGUMENT, without a name, where the size is over the limits or empty.
absl::StatusOr<RawPicture> MakePicture(int64_t width, int64_t height, int channels);
absl::Status CheckImageSize(int64_t width, int64_t height);

// A decoder for each format. `bytes` is a whole file that starts with the format's signature. Each
// takes memory of a small multiple of the picture's size at most and reports corrupt, truncated and
// unsupported files as INVALID_ARGUMENT that says what is wrong, without the file's name.
absl::StatusOr<RawPicture> DecodePng(std::string_view bytes);
absl::StatusOr<RawPicture> DecodeJpeg(std::string_view bytes);
absl::StatusOr<RawPicture> DecodeWebp(std::string_view bytes);  ///< An animation's first frame.
absl::StatusOr<RawPicture> DecodeBmp(std::string_view bytes);
absl::StatusOr<RawPicture> DecodeTiff(std::string_view bytes);  ///< The first page.
absl::StatusOr<RawPicture> DecodeGif(std::string_view bytes);   ///< The first frame.

/// Decodes a picture of any of the formats, told by its bytes, to RGB: grey repeated, CMYK by ink
/// (R = (255 − C) · (255 − K) / 255, as PIL), and, where it has an ICC profile for its colour space
/// (grey, RGB or CMYK), by that profile to sRGB with the perceptual intent, as PIL's
/// ImageCms.profileToProfile. A profile that is broken or for another colour space is ignored, as
/// viewers do.
/// @return INVALID_ARGUMENT naming the file, its format and what is wrong.
absl::StatusOr<RawPicture> DecodePicture(std::string_view bytes,
                                         const std::string& name_for_errors);

/// The picture in RGB, as DecodePicture() describes it.
RawPicture ToSrgb(RawPicture picture);

}  // namespace imageddpo
