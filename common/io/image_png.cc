#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/png_errors.h"
#include "common/io/file.h"
#include "common/io/image_internal.h"

// libpng reports errors by longjmp. The functions that call setjmp hold only objects that were made
// before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

class PngWriter {
 public:
  PngWriter() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &error_, OnPngError, OnPngWarning);
    if (png_ == nullptr) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_write_struct(&png_, nullptr);
      throw std::bad_alloc();
    }
  }
  ~PngWriter() { png_destroy_write_struct(&png_, &info_); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  const char* error() const { return error_.text; }
  std::string& bytes() { return bytes_; }

  bool Write(const Image& image, png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_write_fn(png_, this, &PngWriter::OnWrite, nullptr);
    png_set_user_limits(png_, kMaxImageSide, kMaxImageSide);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(image.width),
                 static_cast<png_uint_32>(image.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    png_write_image(png_, rows);
    png_write_end(png_, info_);
    return true;
  }

 private:
  static void OnWrite(png_structp png, png_bytep data, size_t size) {
    auto* writer = static_cast<PngWriter*>(png_get_io_ptr(png));
    bool failed = false;
    try {
      writer->bytes_.append(reinterpret_cast<const char*>(data), size);
    } catch (const std::bad_alloc&) {  // No exception may pass through C frames.
      failed = true;
    }
    if (failed) png_error(png, "out of memory");
  }

  std::string bytes_;
  PngErrorText error_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

/// Row pointers; libpng takes them as writable also where it only reads.
std::vector<png_bytep> RowPointers(const Image& image) {
  std::vector<png_bytep> rows(static_cast<size_t>(image.height));
  for (size_t y = 0; y < rows.size(); ++y) {
    rows[y] = const_cast<png_bytep>(image.rgb.data() + y * static_cast<size_t>(image.width) * 3);
  }
  return rows;
}

}  // namespace

absl::StatusOr<std::string> EncodePng(const Image& image) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImage(image));
  PngWriter writer;
  std::vector<png_bytep> rows = RowPointers(image);
  if (!writer.Write(image, rows.data())) {
    return absl::InternalError(absl::StrCat("cannot encode a PNG image: ", writer.error()));
  }
  return std::move(writer.bytes());
}

absl::Status WritePng(const std::string& path, const Image& image) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, EncodePng(image));
  return WriteFileAtomically(path, bytes);
}

}  // namespace imageddpo
