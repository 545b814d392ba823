#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/codec/format.h"
#include "common/io/image.h"

// What image.h is made of; no one else includes this.
namespace imageddpo {

/// A decoded file before its orientation is applied.
struct DecodedImage {
  Image image;
  int orientation = 1;  ///< EXIF, 1 (as stored) to 8
};

absl::StatusOr<DecodedImage> DecodePng(std::string_view bytes, const std::string& name_for_errors);
absl::StatusOr<DecodedImage> DecodeJpeg(std::string_view bytes, const std::string& name_for_errors);

/// Orientation from an EXIF block that starts with its TIFF header; 1 when absent or malformed.
/// (CIPA DC-008, tag 0x0112.)
int ExifOrientation(std::string_view tiff);

/// The image turned and mirrored so that it is seen as its orientation says.
Image ApplyOrientation(Image image, int orientation);

/// Checks against the limits in image.h.
absl::Status CheckImageSize(int64_t width, int64_t height, const std::string& name_for_errors);

/// INVALID_ARGUMENT when the pixels do not match the size.
absl::Status CheckImage(const Image& image);

}  // namespace imageddpo
