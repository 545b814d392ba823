#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/orientation.h"
#include "common/io/codec/raw_picture.h"
#include "common/io/codec/tiff_samples.h"

// libtiff unpacks strips and tiles; what their samples mean is decided here, as PIL does, since
// libtiff's own RGBA interface treats CMYK, 16 bits and associated alpha in its own way.
namespace imageddpo {
namespace {

constexpr tmsize_t kMaxLibraryBytes = tmsize_t{1} << 30;
constexpr uint64_t kMaxTileBytes = uint64_t{256} << 20;

/// A file in memory with libtiff's first error in it.
class Source {
 public:
  explicit Source(std::string_view bytes) : bytes_(bytes) {
    TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, kMaxLibraryBytes);
    TIFFOpenOptionsSetErrorHandlerExtR(options, &OnError, this);
    TIFFOpenOptionsSetWarningHandlerExtR(options, &OnWarning, this);
    tiff_ = TIFFClientOpenExt("picture", "r", this, &OnRead, &OnWrite, &OnSeek, &OnClose, &OnSize,
                              &OnMap, &OnUnmap, options);
    TIFFOpenOptionsFree(options);
  }
  ~Source() {
    if (tiff_ != nullptr) TIFFClose(tiff_);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  TIFF* tiff() { return tiff_; }
  bool failed() const { return !error_.empty(); }
  absl::Status error() const {
    return absl::InvalidArgumentError(error_.empty() ? "its data is corrupt" : error_);
  }

 private:
  static int OnError(TIFF*, void* self, const char* module, const char* format, va_list arguments) {
    auto* source = static_cast<Source*>(self);
    if (!source->error_.empty()) return 1;
    char text[256];
    std::vsnprintf(text, sizeof(text), format, arguments);
    source->error_ = absl::StrCat(module == nullptr ? "libtiff" : module, ": ", text);
    return 1;
  }
  /// libjpeg's grey in place of what is missing is an error here, as in JPEG files.
  static int OnWarning(TIFF* tiff, void* self, const char* module, const char* format,
                       va_list arguments) {
    if (module == nullptr || !absl::StrContains(module, "JPEG")) return 1;
    char text[256];
    std::va_list copy;
    va_copy(copy, arguments);
    std::vsnprintf(text, sizeof(text), format, copy);
    va_end(copy);
    return absl::StrContains(text, "remature end") ? OnError(tiff, self, module, format, arguments)
                                                   : 1;
  }
  static tmsize_t OnRead(thandle_t self, void* target, tmsize_t size) {
    auto* source = static_cast<Source*>(self);
    const std::string_view rest =
        source->bytes_.substr(std::min<uint64_t>(source->at_, source->bytes_.size()));
    const size_t taken = std::min(rest.size(), static_cast<size_t>(std::max<tmsize_t>(size, 0)));
    std::memcpy(target, rest.data(), taken);
    source->at_ += taken;
    return static_cast<tmsize_t>(taken);
  }
  static tmsize_t OnWrite(thandle_t, void*, tmsize_t) { return -1; }
  static toff_t OnSeek(thandle_t self, toff_t offset, int from) {
    auto* source = static_cast<Source*>(self);
    const uint64_t base = from == SEEK_SET   ? 0
                          : from == SEEK_CUR ? source->at_
                                             : source->bytes_.size();
    source->at_ = base + offset;
    return source->at_;
  }
  static int OnClose(thandle_t) { return 0; }
  static toff_t OnSize(thandle_t self) { return static_cast<Source*>(self)->bytes_.size(); }
  static int OnMap(thandle_t self, void** base, toff_t* size) {
    auto* source = static_cast<Source*>(self);
    *base = const_cast<char*>(source->bytes_.data());  // Mapped read-only: libtiff copies to swap.
    *size = source->bytes_.size();
    return 1;
  }
  static void OnUnmap(thandle_t, void*, toff_t) {}

  const std::string_view bytes_;
  uint64_t at_ = 0;
  std::string error_;
  TIFF* tiff_ = nullptr;
};

template <typename T>
T Field(TIFF* tiff, uint32_t tag, T otherwise) {
  T value = otherwise;
  return TIFFGetFieldDefaulted(tiff, tag, &value) == 1 ? value : otherwise;
}

std::string Blob(TIFF* tiff, uint32_t tag) {
  uint32_t size = 0;
  const void* data = nullptr;
  if (TIFFGetField(tiff, tag, &size, &data) != 1 || data == nullptr) return "";
  return {static_cast<const char*>(data), size};
}

absl::StatusOr<TiffLayout> LayoutOf(TIFF* tiff) {
  TiffLayout layout;
  layout.width = Field<uint32_t>(tiff, TIFFTAG_IMAGEWIDTH, 0);
  layout.height = Field<uint32_t>(tiff, TIFFTAG_IMAGELENGTH, 0);
  layout.bits = Field<uint16_t>(tiff, TIFFTAG_BITSPERSAMPLE, 1);
  layout.samples = Field<uint16_t>(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  layout.photometric = Field<uint16_t>(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISWHITE);
  layout.separate =
      Field<uint16_t>(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE;
  layout.sample_format = Field<uint16_t>(tiff, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  uint16_t num_extra = 0;
  const uint16_t* extra = nullptr;
  if (TIFFGetField(tiff, TIFFTAG_EXTRASAMPLES, &num_extra, &extra) == 1 && num_extra > 0) {
    layout.associated_alpha = extra[0] == EXTRASAMPLE_ASSOCALPHA;
  }
  if (layout.photometric == PHOTOMETRIC_PALETTE) {
    uint16_t* colours[3] = {};
    if (TIFFGetField(tiff, TIFFTAG_COLORMAP, &colours[0], &colours[1], &colours[2]) != 1) {
      return absl::InvalidArgumentError("it has no palette");
    }
    for (size_t c = 0; layout.bits <= 8 && c < 3; ++c) {
      for (size_t i = 0; i < size_t{1} << layout.bits; ++i) {
        layout.palette[i][c] = static_cast<uint8_t>(colours[c][i] >> 8);
      }
    }
  }
  return layout;
}

/// Rows of samples, tile by tile or row by row, into the picture.
absl::Status ReadSamples(Source& source, const TiffLayout& layout, RawPicture& picture) {
  TIFF* tiff = source.tiff();
  const uint16_t planes = layout.separate ? layout.used_samples() : 1;
  uint32_t tile_width = layout.width, tile_height = 1;
  uint64_t bytes = TIFFScanlineSize64(tiff);
  const bool tiled = TIFFIsTiled(tiff) != 0;
  if (tiled) {
    tile_width = Field<uint32_t>(tiff, TIFFTAG_TILEWIDTH, 0);
    tile_height = Field<uint32_t>(tiff, TIFFTAG_TILELENGTH, 0);
    bytes = TIFFTileSize64(tiff);
  }
  const uint64_t row_bytes = tiled ? TIFFTileRowSize64(tiff) : bytes;
  if (bytes == 0 || bytes > kMaxTileBytes || tile_width == 0 || tile_height == 0) {
    return absl::InvalidArgumentError("its tiles are empty or larger than 256 MiB");
  }
  if (row_bytes < layout.RowBytes(tile_width) || bytes < row_bytes * tile_height) {
    return absl::InvalidArgumentError("its rows are shorter than its pixels need");
  }
  std::vector<uint8_t> buffer(bytes);
  for (uint16_t plane = 0; plane < planes; ++plane) {
    for (uint32_t y = 0; y < layout.height; y += tile_height) {
      for (uint32_t x = 0; x < layout.width; x += tile_width) {
        const bool read = tiled ? TIFFReadTile(tiff, buffer.data(), x, y, 0, plane) >= 0
                                : TIFFReadScanline(tiff, buffer.data(), y, plane) == 1;
        if (!read || source.failed()) return source.error();
        for (uint32_t row = 0; row < std::min(tile_height, layout.height - y); ++row) {
          PutTiffRow(layout, buffer.data() + row * row_bytes,
                     {.plane = plane,
                      .x = x,
                      .y = y + row,
                      .width = std::min(tile_width, layout.width - x)},
                     picture);
        }
      }
    }
  }
  return absl::OkStatus();
}

/// Colours that are stored as brightness and differences, through libtiff's own conversion.
absl::StatusOr<RawPicture> ReadYcbcr(Source& source, const TiffLayout& layout) {
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture, MakePicture(layout.width, layout.height, 3));
  std::vector<uint32_t> raster(size_t{layout.width} * layout.height);
  if (TIFFReadRGBAImageOriented(source.tiff(), layout.width, layout.height, raster.data(),
                                ORIENTATION_TOPLEFT, 1) != 1 ||
      source.failed()) {
    return source.error();
  }
  for (size_t i = 0; i < raster.size(); ++i) {
    picture.samples[3 * i] = static_cast<uint8_t>(TIFFGetR(raster[i]));
    picture.samples[3 * i + 1] = static_cast<uint8_t>(TIFFGetG(raster[i]));
    picture.samples[3 * i + 2] = static_cast<uint8_t>(TIFFGetB(raster[i]));
  }
  return picture;
}

}  // namespace

absl::StatusOr<RawPicture> DecodeTiff(std::string_view bytes) {
  Source source(bytes);
  TIFF* tiff = source.tiff();
  if (tiff == nullptr) return source.error();
  IMAGEDDPO_ASSIGN_OR_RETURN(TiffLayout layout, LayoutOf(tiff));
  IMAGEDDPO_RETURN_IF_ERROR(CheckImageSize(layout.width, layout.height));
  const auto compression = Field<uint16_t>(tiff, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  if (TIFFIsCODECConfigured(compression) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("its compression ", compression, " is not read; save it with LZW or deflate"));
  }
  uint16_t stored_orientation = 0;
  const bool oriented = TIFFGetField(tiff, TIFFTAG_ORIENTATION, &stored_orientation) == 1;
  RawPicture picture;
  const bool ycbcr = layout.photometric == PHOTOMETRIC_YCBCR || compression == COMPRESSION_OJPEG;
  if (ycbcr && compression == COMPRESSION_JPEG && !layout.separate) {
    TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    layout.photometric = PHOTOMETRIC_RGB;
  }
  if (ycbcr && layout.photometric != PHOTOMETRIC_RGB) {
    TIFFSetField(tiff, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);  // As stored.
    IMAGEDDPO_ASSIGN_OR_RETURN(picture, ReadYcbcr(source, layout));
  } else {
    IMAGEDDPO_RETURN_IF_ERROR(CheckTiffLayout(layout));
    IMAGEDDPO_ASSIGN_OR_RETURN(picture,
                               MakePicture(layout.width, layout.height, layout.channels()));
    IMAGEDDPO_RETURN_IF_ERROR(ReadSamples(source, layout, picture));
  }
  picture.profile = Blob(tiff, TIFFTAG_ICCPROFILE);
  if (oriented) {
    picture.orientation =
        stored_orientation >= 1 && stored_orientation <= 8 ? stored_orientation : 1;
  } else {
    picture.orientation = OrientationOf("", Blob(tiff, TIFFTAG_XMLPACKET));
  }
  return picture;
}

}  // namespace imageddpo
