#include "tests/fuzz/mutation.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace imageddpo::fuzz {
namespace {

constexpr std::array<uint64_t, 12> kNumbers = {
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ULL << 63, ~0ULL};
constexpr std::array<std::string_view, 14> kDigits = {"0",          "-1",
                                                      "1",          "255",
                                                      "65536",      "2147483647",
                                                      "2147483648", "4294967296",
                                                      "1000000007", "9223372036854775807",
                                                      "1e308",      "-0.0",
                                                      "0.1e-400",   "-99999999999999999999"};
constexpr std::array<std::string_view, 12> kPieces = {
    "\"", "{",  "}",    "[",    "]",        ":",
    ",",  "\n", "\r\n", "null", "\xFF\xFE", std::string_view("\0", 1)};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string Mutation::Make() {
  std::string text = seeds_[Below(seeds_.size())];
  for (size_t changes = 1 + Below(4); changes > 0; --changes) Change(&text);
  if (text.size() > kMaxBytes) text.resize(kMaxBytes);
  return text;
}

void Mutation::Change(std::string* text) {
  if (text->empty()) {
    *text = seeds_[Below(seeds_.size())];
    return;
  }
  const size_t at = Below(text->size());
  const size_t rest = text->size() - at;
  const size_t length = 1 + Below(std::min<size_t>(rest, 64));
  switch (Below(10)) {
    case 0:
      (*text)[at] = static_cast<char>((*text)[at] ^ (1 << Below(8)));
      return;
    case 1:
      (*text)[at] = static_cast<char>(random_());
      return;
    case 2:
      PutNumber(text);
      return;
    case 3:
      text->resize(at);
      return;
    case 4:
      text->erase(at, length);
      return;
    case 5:
      text->insert(at, text->substr(at, length));
      return;
    case 6: {
      const std::string part = text->substr(at, length);
      text->insert(Below(text->size() + 1), part);
      return;
    }
    case 7: {
      const std::string& other = seeds_[Below(seeds_.size())];
      text->replace(at, length, other.substr(other.empty() ? 0 : Below(other.size()), length));
      return;
    }
    case 8:
      text->insert(at, kPieces[Below(kPieces.size())]);
      return;
    default:
      ChangeDigits(text);
      return;
  }
}

void Mutation::PutNumber(std::string* text) {
  const size_t width = size_t{1} << Below(4);
  if (text->size() < width) return;
  const uint64_t number = kNumbers[Below(kNumbers.size())];
  const bool is_big_endian = Below(2) == 1;
  const size_t at = Below(text->size() - width + 1);
  for (size_t i = 0; i < width; ++i) {
    const size_t shift = 8 * (is_big_endian ? width - 1 - i : i);
    (*text)[at + i] = static_cast<char>(number >> shift);
  }
}

void Mutation::ChangeDigits(std::string* text) {
  const auto from = text->begin() + static_cast<std::ptrdiff_t>(Below(text->size()));
  const auto begin = std::find_if(from, text->end(), IsDigit);
  const auto end = std::find_if_not(begin, text->end(), IsDigit);
  if (begin == text->end()) return;
  text->replace(begin, end, kDigits[Below(kDigits.size())]);
}

}  // namespace imageddpo::fuzz
