#pragma once

#include <optional>
#include <string_view>

// Where pictures say how they are to be turned. The rules are those of PIL's
// ImageOps.exif_transpose, with one difference: metadata that PIL fails on counts as absent.
namespace imageddpo {

/// The orientation of an EXIF block, with or without "Exif\0\0" before its TIFF header (CIPA
/// DC-008, tag 0x0112 of the first directory, of any type of number).
/// @return nullopt where the tag is absent or the block is malformed; 1 where its value is none of
///         1 to 8.
std::optional<int> ExifOrientation(std::string_view exif);

/// tiff:Orientation of an XMP packet; nullopt where it is absent.
std::optional<int> XmpOrientation(std::string_view xmp);

/// EXIF's orientation or, only where that has none, XMP's; 1 where neither has one. Either may be
/// empty.
int OrientationOf(std::string_view exif, std::string_view xmp);

}  // namespace imageddpo
