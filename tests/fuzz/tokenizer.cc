// A tokenizer's vocabulary and merges, and texts: of an input what stands before its first zero
// byte, between that and the second, and behind it.
#include "common/text/tokenizer.h"

#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  using namespace std::string_literals;
  const std::string vocabulary = R"({"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4, )"
                                 R"("<|startoftext|>": 5, "<|endoftext|>": 6})";
  const std::string merges = "#version: 0.2\na b</w>\n";
  return {vocabulary + "\0"s + merges + "\0"s + "AB  ba's 12 \xC3\x84<|endoftext|>\xFF",
          vocabulary + "\0"s + merges + "\0"s + "a"};
}

void Read(std::string_view input) {
  std::string_view rest = input;
  const auto next = [&rest] {
    const std::string_view part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(part.size() + (part.size() < rest.size() ? 1 : 0));
    return part;
  };
  const std::string_view vocabulary = next();
  const std::string_view merges = next();
  constexpr int64_t kLength = 8;
  const auto tokenizer = ClipTokenizer::FromTexts(
      "input", vocabulary, merges, {.max_length = kLength, .bos_id = 5, .eos_id = 6, .pad_id = 6});
  if (!tokenizer.ok()) return;
  const std::vector<int64_t> ids = (*tokenizer)->Encode(rest);
  Require(ids.size() == kLength, "every text has so many tokens");
  for (const int64_t id : ids) {
    Require(id >= 0 && id < (*tokenizer)->vocabulary_size(), "tokens are in the vocabulary");
  }
  (void)(*tokenizer)->IsCut(rest);
}

}  // namespace imageddpo::fuzz
