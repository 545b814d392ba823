#include "common/io/codec/png_chunks.h"

#include <zlib.h>

#include <cstdint>
#include <optional>

#include "absl/cleanup/cleanup.h"

namespace imageddpo {
namespace {

constexpr size_t kSignatureBytes = 8;
constexpr size_t kMaxNoteBytes = size_t{16} << 20;
constexpr std::string_view kRawExif = "Raw profile type exif";
constexpr std::string_view kXmp = "XML:com.adobe.xmp";

uint32_t Read32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

/// What zlib compressed; nullopt where it is corrupt or longer than a note may be.
std::optional<std::string> Inflate(std::string_view compressed) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return std::nullopt;
  const absl::Cleanup end = [&stream] { inflateEnd(&stream); };
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  std::string result;
  int code = Z_OK;
  while (code == Z_OK && result.size() < kMaxNoteBytes) {
    constexpr size_t kStep = size_t{64} << 10;
    const size_t before = result.size();
    result.resize(before + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(result.data() + before);
    stream.avail_out = static_cast<uInt>(kStep);
    code = inflate(&stream, Z_NO_FLUSH);
    result.resize(before + kStep - stream.avail_out);
  }
  return code == Z_STREAM_END ? std::optional(std::move(result)) : std::nullopt;
}

/// The part before the next zero byte, which is taken off `rest` with it.
std::string_view TakeKey(std::string_view& rest) {
  const size_t end = rest.find('\0');
  const std::string_view key = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return key;
}

std::optional<std::string> TakeCompressed(std::string_view rest) {
  if (rest.empty() || rest[0] != 0) return std::nullopt;  // Method 0 is the only one.
  return Inflate(rest.substr(1));
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// ImageMagick's text of a block: an empty line, its name, its length, then lines of hexadecimal
/// digits.
std::string FromRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int high = -1;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    const int digit = HexDigit(c);
    if (digit < 0) return "";
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<char>(high << 4 | digit));
      high = -1;
    }
  }
  return high < 0 ? bytes : "";
}

/// A chunk of text: what it says under which key.
struct Text {
  std::string_view key;
  std::optional<std::string> value;
};

Text ReadText(std::string_view kind, std::string_view data) {
  Text text{.key = TakeKey(data), .value = std::nullopt};
  if (text.key != kRawExif && text.key != kXmp) return text;  // Nothing else is unpacked.
  if (kind == "tEXt") {
    text.value = std::string(data);
  } else if (kind == "zTXt") {
    text.value = TakeCompressed(data);
  } else if (data.size() >= 2) {
    const bool compressed = data[0] != 0;
    const bool known = data[1] == 0;
    data.remove_prefix(2);
    TakeKey(data);  // Language.
    TakeKey(data);  // The key in that language.
    if (!compressed) text.value = std::string(data);
    if (compressed && known) text.value = Inflate(data);
  }
  return text;
}

}  // namespace

PngNotes ReadPngNotes(std::string_view bytes) {
  PngNotes notes;
  std::string raw_exif;
  bytes.remove_prefix(kSignatureBytes);
  while (bytes.size() >= 12) {
    const size_t size = Read32(bytes);
    if (size > bytes.size() - 12) break;
    const std::string_view kind = bytes.substr(4, 4);
    std::string_view data = bytes.substr(8, size);
    const bool text_kind = kind == "tEXt" || kind == "zTXt" || kind == "iTXt";
    const bool wanted = (text_kind || kind == "eXIf" || kind == "iCCP") && size <= kMaxNoteBytes;
    if (wanted && crc32(0, reinterpret_cast<const Bytef*>(kind.data()),
                        static_cast<uInt>(size + 4)) == Read32(bytes.substr(8 + size))) {
      if (kind == "eXIf") {
        notes.exif = data;
      } else if (kind == "iCCP") {
        TakeKey(data);
        notes.profile = TakeCompressed(data).value_or("");
      } else if (Text text = ReadText(kind, data); text.value) {
        if (text.key == kRawExif) raw_exif = FromRawProfile(*text.value);
        if (text.key == kXmp) notes.xmp = *std::move(text.value);
      }
    }
    if (kind == "IEND") break;
    bytes.remove_prefix(12 + size);
  }
  if (notes.exif.empty()) notes.exif = std::move(raw_exif);
  return notes;
}

}  // namespace imageddpo
