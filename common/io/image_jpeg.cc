#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

// clang-format off: jpeglib.h needs size_t and FILE from above, jerror.h needs jpeglib.h.
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/image_codecs.h"

// libjpeg reports errors by longjmp. The functions that call setjmp hold only objects that were
// made before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

constexpr int kMaxScans =
    500;  // A progressive file of a few kilobytes can ask for thousands, hours of work.
constexpr unsigned kMaxMarkerBytes = 0xFFFF;
constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr std::string_view kExifHeader("Exif\0\0", 6);

struct ErrorManager {
  jpeg_error_mgr base;  // First, so that libjpeg's pointer to it is a pointer to the whole.
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
};

[[noreturn]] void OnError(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  manager->base.format_message(info, manager->text);
  std::longjmp(manager->jump, 1);
}

/// libjpeg fills what it cannot read with grey and only warns; for training data that is an error.
void OnMessage(j_common_ptr info, int level) {
  if (level >= 0) return;  // A trace.
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
      OnError(info);
    default:
      ++info->err->num_warnings;
  }
}

void OnProgress(j_common_ptr info) {
  if (info->is_decompressor == 0) return;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  std::strncpy(manager->text, "too many progressive scans", JMSG_LENGTH_MAX - 1);
  std::longjmp(manager->jump, 1);
}

jpeg_error_mgr* SetUp(ErrorManager& manager) {
  jpeg_error_mgr* base = jpeg_std_error(&manager.base);
  base->error_exit = OnError;
  base->emit_message = OnMessage;
  return base;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) { info_.err = SetUp(error_); }
  ~Reader() { jpeg_destroy_decompress(&info_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  const char* error() const { return error_.text; }
  int width() const { return static_cast<int>(info_.image_width); }
  int height() const { return static_cast<int>(info_.image_height); }
  int num_components() const { return info_.num_components; }

  bool ReadInfo() {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_decompress(&info_);
    progress_.progress_monitor = OnProgress;
    info_.progress = &progress_;
    jpeg_save_markers(&info_, kExifMarker, kMaxMarkerBytes);
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// @param rgb  width() * height() * 3 bytes
  bool ReadRows(uint8_t* rgb) {
    if (setjmp(error_.jump) != 0) return false;
    info_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = rgb + size_t{3} * info_.output_scanline * info_.output_width;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  std::string_view Exif() const {
    for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr;
         marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (marker->marker == kExifMarker && data.starts_with(kExifHeader))
        return data.substr(kExifHeader.size());
    }
    return {};
  }

 private:
  std::string_view bytes_;
  ErrorManager error_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
};

class Writer {
 public:
  Writer() { info_.err = SetUp(error_); }
  ~Writer() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  const char* error() const { return error_.text; }
  std::string_view bytes() const { return {reinterpret_cast<const char*>(bytes_), size_}; }

  bool Write(const Image& image, int quality) {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_compress(&info_);
    jpeg_mem_dest(&info_, &bytes_, &size_);
    info_.image_width = static_cast<JDIMENSION>(image.width);
    info_.image_height = static_cast<JDIMENSION>(image.height);
    info_.input_components = 3;
    info_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info_);  // YCbCr, 4:2:0, standard tables.
    jpeg_set_quality(&info_, quality, TRUE);
    jpeg_start_compress(&info_, TRUE);
    while (info_.next_scanline < info_.image_height) {
      auto* row = const_cast<JSAMPROW>(image.rgb.data() +
                                       size_t{3} * info_.next_scanline * info_.image_width);
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

 private:
  ErrorManager error_{};
  jpeg_compress_struct info_{};
  unsigned char* bytes_ = nullptr;  // malloc'ed by libjpeg.
  unsigned long size_ = 0;          // NOLINT(google-runtime-int): libjpeg's type.
};

}  // namespace

absl::StatusOr<DecodedImage> DecodeJpeg(std::string_view bytes,
                                        const std::string& name_for_errors) {
  Reader reader(bytes);
  if (!reader.ReadInfo()) return BadImage(name_for_errors, reader.error());
  IMAGEDDPO_RETURN_IF_ERROR(CheckImageSize(reader.width(), reader.height(), name_for_errors));
  if (reader.num_components() == 4) {
    return BadImage(name_for_errors,
                    "it is a CMYK JPEG, which has no fixed meaning in RGB; convert it to RGB");
  }
  DecodedImage decoded;
  decoded.image.width = reader.width();
  decoded.image.height = reader.height();
  decoded.image.rgb.resize(size_t{3} * static_cast<size_t>(reader.width()) *
                           static_cast<size_t>(reader.height()));
  decoded.orientation = ExifOrientation(reader.Exif());  // The end of ReadRows() frees it.
  if (!reader.ReadRows(decoded.image.rgb.data())) return BadImage(name_for_errors, reader.error());
  return decoded;
}

absl::StatusOr<std::string> EncodeJpeg(const Image& image, int quality) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImage(image));
  if (quality < 1 || quality > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("JPEG quality ", quality, " is not between 1 and 100"));
  }
  Writer writer;
  if (!writer.Write(image, quality)) {
    return absl::InternalError(absl::StrCat("cannot encode a JPEG image: ", writer.error()));
  }
  return std::string(writer.bytes());
}

}  // namespace imageddpo
