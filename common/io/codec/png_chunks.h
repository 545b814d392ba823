#pragma once

#include <string>
#include <string_view>

namespace imageddpo {

/// What a PNG file says of its picture besides the pixels; each is empty where it is absent. Chunks
/// whose checksum is wrong, that are malformed or grow beyond 16 MiB are skipped.
struct PngNotes {
  std::string exif;     ///< Of an eXIf chunk or, without one, of a text "Raw profile type exif".
  std::string xmp;      ///< Of an international text "XML:com.adobe.xmp".
  std::string profile;  ///< ICC, of an iCCP chunk.
};

/// @param bytes  a whole file that starts with the PNG signature.
PngNotes ReadPngNotes(std::string_view bytes);

}  // namespace imageddpo
