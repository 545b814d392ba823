#pragma once

#include <png.h>

#include <cstring>

// What libpng does with errors, for png_create_read_struct() and png_create_write_struct(): the
// text is kept, and control goes back to setjmp(png_jmpbuf(png)).
namespace imageddpo {

struct PngErrorText {
  char text[160] = "";
};

[[noreturn]] inline void OnPngError(png_structp png, png_const_charp message) {
  auto* error = static_cast<PngErrorText*>(png_get_error_ptr(png));
  std::strncpy(error->text, message, sizeof(error->text) - 1);
  png_longjmp(png, 1);
}

inline void OnPngWarning(png_structp, png_const_charp) {}  // Odd but readable chunks.

}  // namespace imageddpo
