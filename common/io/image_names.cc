#include "common/io/image_names.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace imageddpo {

bool HasImageExtension(std::string_view name) {
  static constexpr std::array<std::string_view, 11> kExtensions = {
      "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif", "apng"};
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  const std::string extension =
      absl::AsciiStrToLower(absl::string_view(name.data() + dot + 1, name.size() - dot - 1));
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

}  // namespace imageddpo
