#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// The formats that are read.
enum class ImageFormat { kPng, kJpeg, kWebp, kBmp, kTiff, kGif };

const char* FormatName(ImageFormat format);  ///< "PNG", "JPEG", "WebP", "BMP", "TIFF", "GIF".

/// This many bytes from a file's beginning tell its format.
inline constexpr size_t kFormatHeadBytes = 512;

/// What a file is, from its beginning; never from its name.
/// @param head  the first kFormatHeadBytes bytes, or all of a shorter file.
/// @return BadImage() of any other format, which names that format where it is a known one ("it is
///         HEIC, which is not read; convert it to PNG").
absl::StatusOr<ImageFormat> FormatOf(std::string_view head, const std::string& name_for_errors);

/// INVALID_ARGUMENT naming the file, "cannot read image 'x': why".
absl::Status BadImage(const std::string& name, const std::string& why);
/// The same of a file that starts as one of this format: "cannot read image 'x', a PNG file: why".
absl::Status BadImage(const std::string& name, ImageFormat format, const std::string& why);

}  // namespace imageddpo
