#include "common/text/clip_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>

namespace imageddpo {
namespace {

/// One decoded character; `size` bytes of the text.
struct Character {
  char32_t code = 0;
  size_t size = 1;
  bool valid = true;
};

Character Decode(std::string_view text, size_t at) {
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                       static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  if (size <= 0 || code < 0) return {0xFFFD, 1, false};
  return {static_cast<char32_t>(code), static_cast<size_t>(size), true};
}

void Append(char32_t code, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

struct Range {
  char32_t first, last;
};

/// What Unicode 15.1 and 16.0 added to Unicode 15.0, for a utf8proc that does not know it yet
/// (Debian 12's). Assigned characters keep their categories, so that these are no-ops where
/// utf8proc is newer.
constexpr Range kNewLetters[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389},
    {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
    {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA},
    {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
    {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D},
};
constexpr Range kNewNumbers[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};

/// Lower case of capitals that Unicode 16.0 and 17.0 added: first … last, every `stride`-th, maps
/// to itself + delta.
struct NewCapitals {
  char32_t first, last, stride;
  int32_t delta;
};
constexpr NewCapitals kNewCapitals[] = {
    {0x1C89, 0x1C89, 1, 1},    {0xA7CB, 0xA7CB, 1, -42343}, {0xA7CC, 0xA7CE, 2, 1},
    {0xA7D2, 0xA7D4, 2, 1},    {0xA7DA, 0xA7DA, 1, 1},      {0xA7DC, 0xA7DC, 1, -42561},
    {0x10D50, 0x10D65, 1, 32}, {0x16EA0, 0x16EB8, 1, 27},
};

template <size_t N>
bool Contains(const Range (&ranges)[N], char32_t code) {
  const Range* after =
      std::upper_bound(std::begin(ranges), std::end(ranges), code,
                       [](char32_t value, const Range& range) { return value < range.first; });
  return after != std::begin(ranges) && code <= std::prev(after)->last;
}

enum class Kind { kSpace, kLetter, kNumber, kOther };

bool IsSpace(char32_t code) {  // Unicode's White_Space.
  return (code >= 0x9 && code <= 0xD) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

Kind KindOf(char32_t code) {
  if (IsSpace(code)) return Kind::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Kind::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Kind::kNumber;
    default:
      if (Contains(kNewLetters, code)) return Kind::kLetter;
      return Contains(kNewNumbers, code) ? Kind::kNumber : Kind::kOther;
  }
}

void AppendLower(char32_t code, std::string& out) {
  constexpr char32_t kCapitalIWithDot = 0x130;
  if (code < 0x80) {
    out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    return;
  }
  if (code == kCapitalIWithDot) {  // The only one whose lower case is two characters: i and a
                                   // combining dot.
    out.append("i\xCC\x87");
    return;
  }
  for (const NewCapitals& capitals : kNewCapitals) {
    if (code >= capitals.first && code <= capitals.last &&
        (code - capitals.first) % capitals.stride == 0) {
      return Append(static_cast<char32_t>(static_cast<int32_t>(code) + capitals.delta), out);
    }
  }
  Append(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
}

std::string Compose(std::string_view text) {
  if (std::all_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    return std::string(text);
  }
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &raw,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  if (size < 0)
    throw std::bad_alloc();  // The text is valid UTF-8: memory is all that can be missing.
  return std::string(reinterpret_cast<const char*>(raw), static_cast<size_t>(size));
}

constexpr std::string_view kLiterals[] = {"<|startoftext|>", "<|endoftext|>"};
constexpr std::string_view kContractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

}  // namespace

std::string SanitizeUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character character = Decode(text, at);
    if (character.valid) {
      out.append(text.substr(at, character.size));
    } else {
      Append(character.code, out);
    }
    at += character.size;
  }
  return out;
}

std::string NormalizeClipText(std::string_view text) {
  const std::string composed = Compose(text);
  std::string out;
  out.reserve(composed.size());
  bool in_space = false;
  for (size_t at = 0; at < composed.size();) {
    const Character character = Decode(composed, at);
    at += character.size;
    if (!IsSpace(character.code)) {
      AppendLower(character.code, out);
    } else if (!in_space) {
      out.push_back(' ');
    }
    in_space = IsSpace(character.code);
  }
  return out;
}

std::vector<std::string_view> SplitClipWords(std::string_view text) {
  std::vector<std::string_view> words;
  const auto take_run = [&text](size_t begin, Kind kind) {
    size_t end = begin;
    while (end < text.size()) {
      const Character next = Decode(text, end);
      if (KindOf(next.code) != kind) break;
      end += next.size;
    }
    return end - begin;
  };
  const auto starts_with_any = [&text](size_t at, const auto& options) -> size_t {
    for (std::string_view option : options) {
      if (text.substr(at, option.size()) == option) return option.size();
    }
    return 0;
  };
  for (size_t at = 0; at < text.size();) {
    if (const size_t size = starts_with_any(at, kLiterals); size > 0) {
      // Byte-level splitting follows and knows no special tokens.
      words.push_back(text.substr(at, 2));
      words.push_back(text.substr(at + 2, size - 4));
      words.push_back(text.substr(at + size - 2, 2));
      at += size;
      continue;
    }
    const Character character = Decode(text, at);
    size_t size = starts_with_any(at, kContractions);
    if (size == 0) {
      const Kind kind = KindOf(character.code);
      if (kind == Kind::kSpace) {
        at += character.size;
        continue;
      }
      size = kind == Kind::kNumber ? character.size : take_run(at, kind);
    }
    words.push_back(text.substr(at, size));
    at += size;
  }
  return words;
}

}  // namespace imageddpo
