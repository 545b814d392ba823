#include "common/io/image_probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/codec/format.h"
#include "common/io/codec/raw_picture.h"

namespace imageddpo {
namespace {

constexpr size_t kBlockBytes = 4096;
/// More segments of a JPEG, blocks of a GIF or entries of a TIFF than a sound file has before its
/// size.
constexpr int kMaxSteps = 10000;

struct Size {
  int64_t width = 0, height = 0;
};

/// Numbers anywhere in a file; 0 beyond its end, after which ok() is false.
class Reader {
 public:
  explicit Reader(int fd) : fd_(fd) {}

  bool ok() const { return ok_; }

  std::string_view Bytes(uint64_t offset, size_t size) {
    if (size > kBlockBytes) return Fail();
    if (offset < start_ || offset + size > start_ + block_.size()) {
      if (offset > uint64_t{1} << 62) return Fail();
      block_.resize(kBlockBytes);
      ssize_t got;
      do {
        got = ::pread(fd_, block_.data(), kBlockBytes, static_cast<off_t>(offset));
      } while (got < 0 && errno == EINTR);
      block_.resize(got > 0 ? static_cast<size_t>(got) : 0);
      start_ = offset;
      if (block_.size() < size) return Fail();
    }
    return std::string_view(block_).substr(offset - start_, size);
  }

  uint64_t Big(uint64_t offset, size_t size) { return Number(offset, size, false); }
  uint64_t Little(uint64_t offset, size_t size) { return Number(offset, size, true); }
  uint64_t Number(uint64_t offset, size_t size, bool little_endian) {
    const std::string_view bytes = Bytes(offset, size);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      const size_t at = little_endian ? bytes.size() - 1 - i : i;
      value = value << 8 | static_cast<uint8_t>(bytes[at]);
    }
    return value;
  }

 private:
  std::string_view Fail() {
    ok_ = false;
    return {};
  }

  const int fd_;
  bool ok_ = true;
  uint64_t start_ = 0;
  std::string block_;
};

// Each returns the size, or nullopt where the file has none (or is too short for it).
using Found = std::optional<Size>;

Found PngSize(Reader& file) {
  if (file.Bytes(12, 4) != "IHDR") return std::nullopt;
  return Size{static_cast<int64_t>(file.Big(16, 4)), static_cast<int64_t>(file.Big(20, 4))};
}

Found JpegSize(Reader& file) {
  uint64_t at = 2;
  for (int step = 0; step < kMaxSteps && file.ok(); ++step) {
    if (file.Big(at, 1) != 0xFF) {  // What stands between segments is skipped, as libjpeg does.
      ++at;
      continue;
    }
    const uint64_t marker = file.Big(at + 1, 1);
    if (marker == 0xFF) {
      ++at;
      continue;
    }
    if (marker == 0xD9 || marker == 0xDA) return std::nullopt;  // The image's end or its pixels.
    if (marker == 0x00 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += 2;
      continue;
    }
    const bool frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) {
      return Size{static_cast<int64_t>(file.Big(at + 7, 2)),
                  static_cast<int64_t>(file.Big(at + 5, 2))};
    }
    at += 2 + file.Big(at + 2, 2);
  }
  return std::nullopt;
}

Found WebpSize(Reader& file) {
  const std::string chunk(file.Bytes(12, 4));
  if (chunk == "VP8X") {
    return Size{static_cast<int64_t>(file.Little(24, 3)) + 1,
                static_cast<int64_t>(file.Little(27, 3)) + 1};
  }
  if (chunk == "VP8L") {
    if (file.Little(20, 1) != 0x2F) return std::nullopt;
    const auto bits = static_cast<int64_t>(file.Little(21, 4));
    return Size{(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1};
  }
  if (chunk != "VP8 " || file.Bytes(23, 3) != "\x9d\x01\x2a") return std::nullopt;
  return Size{static_cast<int64_t>(file.Little(26, 2) & 0x3FFF),
              static_cast<int64_t>(file.Little(28, 2) & 0x3FFF)};
}

Found BmpSize(Reader& file) {
  if (file.Little(14, 4) == 12) {
    return Size{static_cast<int64_t>(file.Little(18, 2)), static_cast<int64_t>(file.Little(20, 2))};
  }
  const auto width = static_cast<int32_t>(file.Little(18, 4));
  const auto height = static_cast<int32_t>(file.Little(22, 4));
  return Size{width, height < 0 ? -int64_t{height} : height};  // Below 0: rows from the top.
}

Found TiffSize(Reader& file) {
  const bool little = file.Bytes(0, 1) == "I";
  const auto number = [&](uint64_t at, size_t size) { return file.Number(at, size, little); };
  const bool big = number(2, 2) == 43;
  const uint64_t directory = big ? number(8, 8) : number(4, 4);
  const uint64_t entries = number(directory, big ? 8 : 2);
  Size size;
  for (uint64_t i = 0; i < std::min<uint64_t>(entries, kMaxSteps) && file.ok(); ++i) {
    const uint64_t entry = directory + (big ? 8 + i * 20 : 2 + i * 12);
    const uint64_t tag = number(entry, 2);
    if (tag != 256 && tag != 257) continue;
    const size_t value_bytes = number(entry + 2, 2) == 3 ? 2 : 4;
    const auto value = static_cast<int64_t>(number(entry + (big ? 12 : 8), value_bytes));
    (tag == 256 ? size.width : size.height) = value;
    if (size.width > 0 && size.height > 0) return size;
  }
  return std::nullopt;
}

/// The screen's size or, where the first picture reaches beyond it, what covers both.
Found GifSize(Reader& file) {
  Size size{static_cast<int64_t>(file.Little(6, 2)), static_cast<int64_t>(file.Little(8, 2))};
  const auto table_bytes = [](uint64_t flags) -> uint64_t {
    return (flags & 0x80) != 0 ? uint64_t{6} << (flags & 7) : 0;
  };
  uint64_t at = 13 + table_bytes(file.Little(10, 1));
  for (int step = 0; step < kMaxSteps && file.ok(); ++step) {
    const uint64_t block = file.Little(at, 1);
    if (block == ',') {
      size.width = std::max(size.width,
                            static_cast<int64_t>(file.Little(at + 1, 2) + file.Little(at + 5, 2)));
      size.height = std::max(size.height,
                             static_cast<int64_t>(file.Little(at + 3, 2) + file.Little(at + 7, 2)));
      return size;
    }
    if (block != '!') return std::nullopt;
    at += 2;
    for (uint64_t bytes = file.Little(at, 1); bytes > 0 && file.ok() && step < kMaxSteps; ++step) {
      at += 1 + bytes;
      bytes = file.Little(at, 1);
    }
    ++at;
  }
  return std::nullopt;
}

Found SizeOf(ImageFormat format, Reader& file) {
  switch (format) {
    case ImageFormat::kPng:
      return PngSize(file);
    case ImageFormat::kJpeg:
      return JpegSize(file);
    case ImageFormat::kWebp:
      return WebpSize(file);
    case ImageFormat::kBmp:
      return BmpSize(file);
    case ImageFormat::kTiff:
      return TiffSize(file);
    case ImageFormat::kGif:
      return GifSize(file);
  }
  return std::nullopt;
}

absl::Status OpenError(const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot read image '", ValidText(path), "'"));
}

}  // namespace

absl::StatusOr<ImageHeader> ProbeImage(const std::string& path) {
  // A pipe without a writer would block.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return OpenError(path);
  const absl::Cleanup close = [fd] { ::close(fd); };
  struct stat info;
  if (::fstat(fd, &info) != 0) return OpenError(path);
  if (!S_ISREG(info.st_mode)) return BadImage(path, "it is no regular file");
  if (info.st_size > static_cast<off_t>(kMaxImageFileBytes)) return FileTooLarge(path);

  Reader file(fd);
  const size_t head_bytes = std::min(static_cast<size_t>(info.st_size), kFormatHeadBytes);
  IMAGEDDPO_ASSIGN_OR_RETURN(const ImageFormat format, FormatOf(file.Bytes(0, head_bytes), path));
  const Found size = SizeOf(format, file);
  if (!size || !file.ok()) return BadImage(path, format, "it ends before its size is told");
  const absl::Status fits = CheckImageSize(size->width, size->height);
  if (!fits.ok()) return BadImage(path, format, std::string(fits.message()));
  return ImageHeader{FormatName(format), static_cast<int>(size->width),
                     static_cast<int>(size->height)};
}

}  // namespace imageddpo
