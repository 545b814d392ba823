#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/picture_size.h"
#include "common/io/codec/raw_picture.h"

namespace imageddpo {

/// 8-bit RGB, rows from the top, interleaved: rgb[(y * width + x) * 3 + channel].
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

/// PNG, JPEG, WebP, BMP, TIFF or GIF, told apart by content, not by name; of animations and
/// documents the first picture. What PIL's convert("RGB") gives after exif_transpose, with an ICC
/// profile converted to sRGB: grey and palette expanded, CMYK by ink, alpha dropped (not blended),
/// gamma ignored, the orientation of EXIF or else of XMP applied. 16-bit samples are reduced to
/// their high byte (PIL clips those of grey pictures instead). Files over kMaxImageFileBytes and
/// pictures over kMaxImageSide or kMaxImagePixels are refused before memory is taken for them.
/// INVALID_ARGUMENT, naming the file, its real format and what is wrong, for any other format and
/// for corrupt or truncated data.
absl::StatusOr<Image> ReadImage(const std::string& path);
absl::StatusOr<Image> DecodeImage(std::string_view bytes, std::string_view name_for_errors);

absl::StatusOr<std::string> EncodePng(const Image& image);
absl::Status WritePng(const std::string& path, const Image& image);  ///< Atomic.

/// Baseline JPEG, 4:2:0, standard Huffman tables: PIL's save(format="JPEG", quality=quality), so
/// that sizes are comparable.
/// @param quality  1 to 100
absl::StatusOr<std::string> EncodeJpeg(const Image& image, int quality);

/// Resampling kernels, all antialiased (stretched by the scale when shrinking), in the arithmetic
/// of PIL's Image.resize: separable, 22-bit fixed point, first across, rounded to 8 bits, then
/// down. (Pillow 13 goes down first where that is cheaper, which changes the rounding in between.)
enum class ResizeFilter { kBox, kBilinear, kBicubic, kLanczos };

/// @throws std::invalid_argument  empty image or a size < 1 (a caller bug).
Image Resize(const Image& image, int width, int height,
             ResizeFilter filter = ResizeFilter::kBicubic);

/// Scales, keeping the aspect ratio, until the image covers width × height, then crops it to the
/// middle.
Image ResizeAndCentreCrop(const Image& image, int width, int height,
                          ResizeFilter filter = ResizeFilter::kBicubic);

/// @throws std::invalid_argument  empty image or a size < 1 (a caller bug).
Image ResizeTo(const Image& image, int width, int height, ResizeMode mode);

/// One picture of a grid of pictures, `gap` pixels of white between them. A column is as wide, a
/// row as high, as its largest picture; smaller ones stand at the cell's top left. Rows may have
/// different lengths.
Image Tile(const std::vector<std::vector<Image>>& rows, int gap);

}  // namespace imageddpo
