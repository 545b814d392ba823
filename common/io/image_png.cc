#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "common/io/image_codecs.h"

// libpng reports errors by longjmp. The functions that call setjmp hold only objects that were made
// before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = png_alloc_size_t{16} << 20;

struct ErrorText {
  char text[160] = "";
};

[[noreturn]] void OnError(png_structp png, png_const_charp message) {
  auto* error = static_cast<ErrorText*>(png_get_error_ptr(png));
  std::strncpy(error->text, message, sizeof(error->text) - 1);
  png_longjmp(png, 1);
}

void OnWarning(png_structp, png_const_charp) {}  // Odd but readable chunks.

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &error_, OnError, OnWarning);
    if (png_ == nullptr) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  const char* error() const { return error_.text; }
  png_uint_32 width() const { return png_get_image_width(png_, info_); }
  png_uint_32 height() const { return png_get_image_height(png_, info_); }

  bool ReadInfo() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_read_fn(png_, this, &Reader::OnRead);
    png_set_user_limits(png_, kMaxImageSide, kMaxImageSide);
    png_set_chunk_malloc_max(png_, kMaxChunkBytes);
    png_read_info(png_, info_);
    return true;
  }

  /// @param rows  one pointer per row, to width() * 3 bytes each
  bool ReadRows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_expand(
        png_);  // Palette to RGB, grey of 1, 2, 4 bits to 8, transparent colour to alpha.
    png_set_strip_16(png_);  // The high byte.
    png_set_strip_alpha(png_);
    png_set_gray_to_rgb(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != size_t{3} * width())
      png_error(png_, "unexpected row size");
    png_read_image(png_, rows);
    png_read_end(png_, info_);
    return true;
  }

  std::string_view Exif() const {
    png_bytep exif = nullptr;
    png_uint_32 size = 0;
    if (png_get_eXIf_1(png_, info_, &size, &exif) == 0 || exif == nullptr) return {};
    return {reinterpret_cast<const char*>(exif), size};
  }

 private:
  static void OnRead(png_structp png, png_bytep target, size_t size) {
    auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
    if (size > reader->rest_.size()) png_error(png, "the file is truncated");
    std::memcpy(target, reader->rest_.data(), size);
    reader->rest_.remove_prefix(size);
  }

  std::string_view rest_;
  ErrorText error_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

class Writer {
 public:
  Writer() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &error_, OnError, OnWarning);
    if (png_ == nullptr) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_write_struct(&png_, nullptr);
      throw std::bad_alloc();
    }
  }
  ~Writer() { png_destroy_write_struct(&png_, &info_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  const char* error() const { return error_.text; }
  std::string& bytes() { return bytes_; }

  bool Write(const Image& image, png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_write_fn(png_, this, &Writer::OnWrite, nullptr);
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
    auto* writer = static_cast<Writer*>(png_get_io_ptr(png));
    bool failed = false;
    try {
      writer->bytes_.append(reinterpret_cast<const char*>(data), size);
    } catch (const std::bad_alloc&) {  // No exception may pass through C frames.
      failed = true;
    }
    if (failed) png_error(png, "out of memory");
  }

  std::string bytes_;
  ErrorText error_;
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

absl::StatusOr<DecodedImage> DecodePng(std::string_view bytes, const std::string& name_for_errors) {
  Reader reader(bytes);
  if (!reader.ReadInfo()) return BadImage(name_for_errors, reader.error());
  IMAGEDDPO_RETURN_IF_ERROR(CheckImageSize(reader.width(), reader.height(), name_for_errors));
  DecodedImage decoded;
  decoded.image.width = static_cast<int>(reader.width());
  decoded.image.height = static_cast<int>(reader.height());
  decoded.image.rgb.resize(size_t{3} * reader.width() * reader.height());
  std::vector<png_bytep> rows = RowPointers(decoded.image);
  if (!reader.ReadRows(rows.data())) return BadImage(name_for_errors, reader.error());
  decoded.orientation = ExifOrientation(reader.Exif());
  return decoded;
}

absl::StatusOr<std::string> EncodePng(const Image& image) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckImage(image));
  Writer writer;
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
