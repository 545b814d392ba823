#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// What a picture's file says about it before its pixels.
struct ImageHeader {
  std::string format;  ///< By content, not by name: "PNG", "JPEG", "WebP", "BMP", "TIFF", "GIF".
  /// Pixels as stored: before the orientation is applied, which may exchange the two.
  int width = 0;
  int height = 0;
};

/// Reads a picture's format and size, and of the file no more than it takes: mostly one block of
/// 4 KiB. A file that passes has a format that is read and a size within image.h's limits; its
/// pixels may still be corrupt.
/// @return as ReadImage() for a file whose beginning it cannot read: INVALID_ARGUMENT naming the
///         file, its real format and what is wrong with it; NOT_FOUND and the like where it cannot
///         be opened. Safe to call from several threads.
absl::StatusOr<ImageHeader> ProbeImage(const std::string& path);

}  // namespace imageddpo
