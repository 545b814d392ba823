#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

// clang-format off: jpeglib.h needs size_t and FILE from above.
#include <jpeglib.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/jpeg_errors.h"
#include "common/io/image_internal.h"

// libjpeg reports errors by longjmp. The functions that call setjmp hold only objects that were
// made before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

jpeg_error_mgr* SetUp(JpegErrorManager& manager) {
  jpeg_error_mgr* base = jpeg_std_error(&manager.base);
  base->error_exit = OnJpegError;
  return base;
}

class JpegWriter {
 public:
  JpegWriter() { info_.err = SetUp(error_); }
  ~JpegWriter() {
    jpeg_destroy_compress(&info_);
    std::free(bytes_);
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

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
  JpegErrorManager error_{};
  jpeg_compress_struct info_{};
  unsigned char* bytes_ = nullptr;  // malloc'ed by libjpeg.
  unsigned long size_ = 0;          // NOLINT(google-runtime-int): libjpeg's type.
};

}  // namespace

absl::StatusOr<std::string> EncodeJpeg(const Image& image, int quality) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImage(image));
  if (quality < 1 || quality > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("JPEG quality ", quality, " is not between 1 and 100"));
  }
  JpegWriter writer;
  if (!writer.Write(image, quality)) {
    return absl::InternalError(absl::StrCat("cannot encode a JPEG image: ", writer.error()));
  }
  return std::string(writer.bytes());
}

}  // namespace imageddpo
