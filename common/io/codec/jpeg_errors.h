#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdio>

// clang-format off: jpeglib.h needs size_t and FILE, which it does not declare.
#include <jpeglib.h>
// clang-format on

// What libjpeg does with errors: the text is kept, and control goes back to setjmp(jump).
namespace imageddpo {

struct JpegErrorManager {
  jpeg_error_mgr base;  ///< First, so that libjpeg's pointer to it is a pointer to the whole.
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
};

[[noreturn]] inline void OnJpegError(j_common_ptr info) {
  auto* manager = reinterpret_cast<JpegErrorManager*>(info->err);
  manager->base.format_message(info, manager->text);
  std::longjmp(manager->jump, 1);
}

}  // namespace imageddpo
