#include "common/base/text.h"

#include <utf8proc.h>

namespace imageddpo {
namespace {

/// Bytes of the valid character that `text`, which is not empty, begins with; 0: it begins with
/// none.
size_t FirstCharacter(std::string_view text) {
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &code);
  return size > 0 ? static_cast<size_t>(size) : 0;
}

bool IsUpperHex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }

bool HasEscape(std::string_view text) {
  for (size_t at = text.find("\\x"); at != text.npos; at = text.find("\\x", at + 1)) {
    if (at + 3 < text.size() && IsUpperHex(text[at + 2]) && IsUpperHex(text[at + 3])) return true;
  }
  return false;
}

void AppendEscaped(char byte, std::string* out) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto value = static_cast<unsigned char>(byte);
  *out += {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t size = FirstCharacter(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string ValidText(std::string_view text) {
  if (IsValidUtf8(text) && !HasEscape(text)) return std::string(text);
  std::string valid;
  while (!text.empty()) {
    const size_t size = FirstCharacter(text);
    if (size == 0 || text.front() == '\\') {
      AppendEscaped(text.front(), &valid);
      text.remove_prefix(1);
    } else {
      valid.append(text.substr(0, size));
      text.remove_prefix(size);
    }
  }
  return valid;
}

}  // namespace imageddpo
