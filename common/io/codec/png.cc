#include <png.h>

#include <csetjmp>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/io/codec/orientation.h"
#include "common/io/codec/png_chunks.h"
#include "common/io/codec/png_errors.h"
#include "common/io/codec/raw_picture.h"

// libpng reports errors by longjmp. The functions that call setjmp hold only objects that were made
// before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = png_alloc_size_t{16} << 20;

class PngReader {
 public:
  explicit PngReader(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &error_, OnPngError, OnPngWarning);
    if (png_ == nullptr) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  absl::Status error() const { return absl::InvalidArgumentError(error_.text); }
  png_uint_32 width() const { return png_get_image_width(png_, info_); }
  png_uint_32 height() const { return png_get_image_height(png_, info_); }
  /// Of the samples that ReadRows() gives.
  int channels() const {
    return (png_get_color_type(png_, info_) & PNG_COLOR_MASK_COLOR) != 0 ? 3 : 1;
  }

  bool ReadInfo() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_read_fn(png_, this, &PngReader::OnRead);
    // Larger ones are refused by MakePicture(), with their size.
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_chunk_malloc_max(png_, kMaxChunkBytes);
    // Profiles and texts are read by ReadPngNotes().
    static const png_byte kUnused[] = "iCCP\0iTXt\0tEXt\0zTXt\0eXIf";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kUnused, 5);
    png_read_info(png_, info_);
    return true;
  }

  /// @param rows  one pointer per row, to width() · channels() bytes each
  bool ReadRows(png_bytepp rows, size_t row_bytes) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    // Palette to RGB, grey of 1, 2, 4 bits to 8, transparent colour to alpha.
    png_set_expand(png_);
    png_set_strip_16(png_);  // The high byte.
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != row_bytes) png_error(png_, "unexpected row size");
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  static void OnRead(png_structp png, png_bytep target, size_t size) {
    auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
    if (size > reader->rest_.size()) png_error(png, "the file is truncated");
    std::memcpy(target, reader->rest_.data(), size);
    reader->rest_.remove_prefix(size);
  }

  std::string_view rest_;
  PngErrorText error_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

absl::StatusOr<RawPicture> DecodePng(std::string_view bytes) {
  PngReader reader(bytes);
  if (!reader.ReadInfo()) return reader.error();
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture,
                             MakePicture(reader.width(), reader.height(), reader.channels()));
  std::vector<png_bytep> rows(static_cast<size_t>(picture.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = picture.row(y);
  if (!reader.ReadRows(rows.data(), picture.row_bytes())) return reader.error();
  PngNotes notes = ReadPngNotes(bytes);
  picture.orientation = OrientationOf(notes.exif, notes.xmp);
  picture.profile = std::move(notes.profile);
  return picture;
}

}  // namespace imageddpo
