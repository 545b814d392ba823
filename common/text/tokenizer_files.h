#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/byte_pair_encoder.h"

namespace imageddpo {

/// A token that is found in the text before it is cut into words.
struct SpecialToken {
  std::string content;
  int64_t id = 0;
  bool normalized =
      false;  ///< Looked for in the normalised text (so in any case), not in the text as given.
};

/// What a tokenizer folder says, whichever files it says it in.
struct TokenizerFiles {
  Vocabulary vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<SpecialToken> special_tokens;  ///< Contents are distinct.
  int64_t bos_id = 0;
  int64_t eos_id = 0;
  int64_t pad_id = 0;
  int64_t unk_id = 0;
  int64_t max_length = 0;
};

/// Of `vocab` and `merges`, the contents of a vocab.json and a merges.txt.
/// @param where  what they belong to, for messages.
absl::Status ReadVocabAndMerges(const std::string& where, std::string_view vocab,
                                std::string_view merges, TokenizerFiles& out);

/// Errors as ClipTokenizer::Load.
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& tokenizer_dir);

}  // namespace imageddpo
