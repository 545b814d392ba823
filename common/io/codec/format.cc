#include "common/io/codec/format.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

using std::string_view_literals::operator""sv;

/// A format's bytes at a place, and its name.
template <typename T>
struct Magic {
  size_t offset;
  std::string_view bytes;
  T what;
};

constexpr Magic<ImageFormat> kRead[] = {{0, "\x89PNG\r\n\x1a\n"sv, ImageFormat::kPng},
                                        {0, "\xff\xd8\xff"sv, ImageFormat::kJpeg},
                                        {0, "BM"sv, ImageFormat::kBmp},
                                        {0, "II*\0"sv, ImageFormat::kTiff},
                                        {0, "MM\0*"sv, ImageFormat::kTiff},
                                        {0, "II+\0"sv, ImageFormat::kTiff},
                                        {0, "MM\0+"sv, ImageFormat::kTiff},
                                        {0, "GIF87a"sv, ImageFormat::kGif},
                                        {0, "GIF89a"sv, ImageFormat::kGif}};

/// Pictures that are not read.
constexpr Magic<const char*> kPictures[] = {
    {4, "ftypavif"sv, "AVIF"},
    {4, "ftypavis"sv, "AVIF"},
    {4, "ftypheic"sv, "HEIC"},
    {4, "ftypheix"sv, "HEIC"},
    {4, "ftyphevc"sv, "HEIC"},
    {4, "ftyphevx"sv, "HEIC"},
    {4, "ftypheim"sv, "HEIC"},
    {4, "ftypheis"sv, "HEIC"},
    {4, "ftypmif1"sv, "HEIF"},
    {4, "ftypmsf1"sv, "HEIF"},
    {4, "ftypcrx "sv, "a raw photo of a camera (CR3)"},
    {0, "\xff\x0a"sv, "JPEG XL"},
    {0, "\0\0\0\x0cJXL \r\n\x87\n"sv, "JPEG XL"},
    {0, "\0\0\0\x0cjP  \r\n\x87\n"sv, "JPEG 2000"},
    {0, "\xff\x4f\xff\x51"sv, "JPEG 2000"},
    {0, "8BPS"sv, "a Photoshop document (PSD)"},
    {0, "%PDF"sv, "PDF"},
    {0, "%!PS"sv, "PostScript"},
    {0, "v/1\x01"sv, "OpenEXR"},
    {0, "#?RADIANCE"sv, "Radiance HDR"},
    {0, "#?RGBE"sv, "Radiance HDR"},
    {0, "DDS "sv, "DDS"},
    {0, "qoif"sv, "QOI"},
    {0, "gimp xcf"sv, "a GIMP document (XCF)"},
    {0, "\0\0\1\0"sv, "an icon (ICO)"},
    {0, "\0\0\2\0"sv, "a cursor (CUR)"},
    {0, "icns"sv, "an icon (ICNS)"},
    {0, "FUJIFILMCCD-RAW"sv, "a raw photo of a camera (RAF)"},
    {0, "IIU\0"sv, "a raw photo of a camera (RW2)"},
    {0, "IIRO"sv, "a raw photo of a camera (ORF)"}};

/// What is no picture.
constexpr Magic<const char*> kOthers[] = {
    {4, "ftyp"sv, "a video (MP4)"},      {0, "\x1a\x45\xdf\xa3"sv, "a video (WebM or Matroska)"},
    {0, "\x93NUMPY"sv, "a NumPy array"}, {0, "PK\3\4"sv, "a ZIP archive"},
    {0, "\x1f\x8b"sv, "a gzip archive"}, {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
    {0, "Rar!"sv, "a RAR archive"},      {257, "ustar"sv, "a tar archive"}};

constexpr std::string_view kLfsPointer = "version https://git-lfs";

template <typename T, size_t kSize>
std::optional<T> Match(const Magic<T> (&table)[kSize], std::string_view head) {
  for (const Magic<T>& magic : table) {
    if (head.size() >= magic.offset && head.substr(magic.offset).starts_with(magic.bytes)) {
      return magic.what;
    }
  }
  return std::nullopt;
}

/// P1 to P7 and the maps of floats, followed by white space.
bool IsNetpbm(std::string_view head) {
  return head.size() > 2 && head[0] == 'P' && absl::StrContains("1234567fF", head[1]) &&
         absl::ascii_isspace(static_cast<unsigned char>(head[2]));
}

bool IsText(std::string_view head) {
  const bool printable = std::all_of(head.begin(), head.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x80 || absl::ascii_isprint(byte) || absl::ascii_isspace(byte);
  });
  if (!printable) return false;
  for (size_t cut = 0; cut < 4 && cut < head.size(); ++cut) {  // The head may end in a character.
    if (IsValidUtf8(head.substr(0, head.size() - cut))) return true;
  }
  return false;
}

/// What a file is that is not read, and what its owner can do.
std::string Describe(std::string_view head) {
  if (std::all_of(head.begin(), head.end(), [](char c) { return c == 0; })) {
    return "it holds only zeros, as a copy that was interrupted leaves; copy it again";
  }
  if (head.starts_with(kLfsPointer)) {
    return "it is a pointer to a file in Git LFS; fetch the picture with `git lfs pull`";
  }
  const std::string start = absl::AsciiStrToLower(
      absl::StripLeadingAsciiWhitespace(absl::StripPrefix(std::string(head), "\xef\xbb\xbf")));
  std::optional<const char*> picture = Match(kPictures, head);
  if (!picture && IsNetpbm(head)) picture = "a Netpbm picture (PPM)";
  if (!picture && IsText(head) && absl::StrContains(start, "<svg")) picture = "SVG";
  if (picture) return absl::StrCat("it is ", *picture, ", which is not read; convert it to PNG");

  std::optional<const char*> other = Match(kOthers, head);
  if (!other && head.starts_with("RIFF")) other = "a video or sound (RIFF)";
  if (!other && (absl::StartsWith(start, "<!doctype html") || absl::StartsWith(start, "<html"))) {
    other = "a web page (HTML)";
  }
  if (!other && IsText(head)) other = "text";
  if (other) return absl::StrCat("it is ", *other, ", no picture; remove it from the data");
  return "it is none of the formats that are read (PNG, JPEG, WebP, BMP, TIFF, GIF)";
}

}  // namespace

absl::Status BadImage(const std::string& name, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("cannot read image '", ValidText(name), "': ", ValidMessage(why)));
}

absl::Status BadImage(const std::string& name, ImageFormat format, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("cannot read image '", ValidText(name), "', a ",
                                                 FormatName(format), " file: ", ValidMessage(why)));
}

const char* FormatName(ImageFormat format) {
  switch (format) {
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kWebp:
      return "WebP";
    case ImageFormat::kBmp:
      return "BMP";
    case ImageFormat::kTiff:
      return "TIFF";
    case ImageFormat::kGif:
      return "GIF";
  }
  return "unknown";
}

absl::StatusOr<ImageFormat> FormatOf(std::string_view head, const std::string& name_for_errors) {
  if (head.empty()) return BadImage(name_for_errors, "the file is empty");
  if (const auto format = Match(kRead, head)) return *format;
  if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WEBP") {
    return ImageFormat::kWebp;
  }
  return BadImage(name_for_errors, Describe(head));
}

}  // namespace imageddpo
