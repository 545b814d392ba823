#include "common/base/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace imageddpo {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr size_t kLongestCharacterBytes = 4;
constexpr size_t kEscapeBytes = 4;  // Of `\xHH`.
constexpr size_t kMaxLineExcerptBytes = 200;

/// What a text begins with. size_bytes 0: no valid character.
struct Character {
  size_t size_bytes = 0;
  int32_t code = 0;
};

Character FirstCharacter(std::string_view text) {
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &code);
  return size > 0 ? Character{static_cast<size_t>(size), code} : Character{};
}

bool IsUpperHex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }

bool BeginsWithEscape(std::string_view text) {
  return text.size() >= kEscapeBytes && text.starts_with("\\x") && IsUpperHex(text[2]) &&
         IsUpperHex(text[3]);
}

bool HasEscape(std::string_view text) {
  for (size_t at = text.find("\\x"); at != text.npos; at = text.find("\\x", at + 1)) {
    if (BeginsWithEscape(text.substr(at))) return true;
  }
  return false;
}

/// Each byte that belongs to no valid character, and those of the characters that are `unwanted`,
/// as `\xHH`.
template <typename Unwanted>
std::string Escape(std::string_view text, const Unwanted& unwanted) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string escaped;
  while (!text.empty()) {
    const Character first = FirstCharacter(text);
    const size_t size = std::max<size_t>(1, first.size_bytes);
    if (first.size_bytes > 0 && !unwanted(first.code)) {
      escaped.append(text.substr(0, size));
    } else {
      for (const char byte : text.substr(0, size)) {
        const auto value = static_cast<unsigned char>(byte);
        escaped += {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
      }
    }
    text.remove_prefix(size);
  }
  return escaped;
}

bool IsUnprintable(int32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) ||  // Control characters.
         code == 0x2028 || code == 0x2029 ||              // Separators of lines and paragraphs.
         (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);  // Direction.
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t size = FirstCharacter(text).size_bytes;
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string ValidText(std::string_view text) {
  if (IsValidUtf8(text) && !HasEscape(text)) return std::string(text);
  return Escape(text, [](int32_t code) { return code == '\\'; });
}

std::string BytesOf(std::string_view valid_text) {
  std::string bytes;
  for (std::string_view rest = valid_text; !rest.empty();) {
    const bool is_escape = BeginsWithEscape(rest);
    uint32_t byte = static_cast<unsigned char>(rest.front());
    if (is_escape) (void)absl::SimpleHexAtoi(std::string(rest.substr(2, 2)), &byte);
    bytes += static_cast<char>(byte);
    rest.remove_prefix(is_escape ? kEscapeBytes : 1);
  }
  return ValidText(bytes) == valid_text ? bytes : std::string(valid_text);
}

std::string PathOf(const std::string& text, const std::string& dir) {
  const auto exists = [&dir](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::path(dir) / path, ignored);
  };
  std::string bytes = BytesOf(text);
  return bytes != text && !exists(bytes) && exists(text) ? text : bytes;
}

std::string ValidMessage(std::string_view text) {
  return Escape(text, [](int32_t) { return false; });
}

std::string Printable(std::string_view text, bool keep_newlines) {
  return Escape(text, [keep_newlines](int32_t code) {
    return IsUnprintable(code) && !(keep_newlines && code == '\n');
  });
}

std::string PrintableJson(std::string_view json) {
  std::string printable;
  while (!json.empty()) {
    const Character first = FirstCharacter(json);
    const size_t size = std::max<size_t>(1, first.size_bytes);
    if (first.size_bytes > 0 && first.code >= 0x7F && IsUnprintable(first.code)) {
      absl::StrAppendFormat(&printable, "\\u%04x", first.code);
    } else {
      printable.append(json.substr(0, size));
    }
    json.remove_prefix(size);
  }
  return printable;
}

std::string Excerpt(std::string_view text, size_t max_bytes) {
  const std::string valid = ValidMessage(text.substr(0, max_bytes + kLongestCharacterBytes));
  if (valid.size() <= max_bytes) return valid;
  size_t end = 0;
  for (size_t next = 0; next <= max_bytes;
       next += FirstCharacter(std::string_view(valid).substr(next)).size_bytes) {
    end = next;
  }
  return absl::StrCat(valid.substr(0, end), "…");
}

absl::StatusOr<std::string_view> Utf8Of(std::string_view bytes, std::string_view file) {
  if (bytes.starts_with("\xff\xfe") || bytes.starts_with("\xfe\xff") ||
      bytes.substr(0, 4).find('\0') != bytes.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(file), " is text in UTF-16 or UTF-32; save it as UTF-8"));
  }
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  if (IsValidUtf8(bytes)) return bytes;
  int line_number = 1;
  std::string_view rest = bytes;
  std::string_view line = rest.substr(0, rest.find('\n'));
  while (IsValidUtf8(line)) {
    rest.remove_prefix(line.size() + 1);
    line = rest.substr(0, rest.find('\n'));
    ++line_number;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(file), ":", line_number, ": the line is not UTF-8: ",
                   Excerpt(line, kMaxLineExcerptBytes), "; save the file as UTF-8"));
}

std::string NonFiniteAsNull(std::string_view json) {
  std::string out;
  bool in_string = false;
  for (size_t at = 0; at < json.size(); ++at) {
    if (json[at] == '"') in_string = !in_string;
    if (in_string && json[at] == '\\') out.push_back(json[at++]);
    if (!in_string) {
      for (const std::string word : {"-Infinity", "Infinity", "NaN"}) {
        if (json.compare(at, word.size(), word) != 0) continue;
        out += "null";
        at += word.size();
        break;
      }
    }
    if (at < json.size()) out.push_back(json[at]);
  }
  return out;
}

absl::Status CheckJsonDepth(std::string_view json, std::string_view file) {
  int levels = 0;
  bool in_text = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text && c == '\\') {
      ++i;  // What follows is no end of the text.
    } else if (c == '"') {
      in_text = !in_text;
    } else if (!in_text && (c == '[' || c == '{')) {
      if (++levels <= kMostJsonLevels) continue;
      return absl::InvalidArgumentError(absl::StrCat(std::string(file), ": more than ",
                                                     kMostJsonLevels,
                                                     " lists and objects stand in each other"));
    } else if (!in_text && (c == ']' || c == '}')) {
      --levels;
    }
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
