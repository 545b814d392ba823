#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

using Vocabulary = std::unordered_map<std::string, int64_t>;

/// Byte-level byte-pair encoding with "</w>" at word ends (Sennrich et al., arXiv:1508.07909; the
/// byte alphabet is GPT-2's). Immutable.
class BytePairEncoder {
 public:
  /// @param merges      pairs of tokens, the first ones first to be merged.
  /// @param unknown_id  stands for bytes without a token of their own.
  /// @return INVALID_ARGUMENT naming the merge whose parts or result are not in the vocabulary.
  static absl::StatusOr<BytePairEncoder> Create(
      const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
      int64_t unknown_id);

  /// Appends the ids of one word (any bytes); nothing for an empty one.
  void Encode(std::string_view word, std::vector<int64_t>& ids) const;

 private:
  struct Merge {
    int64_t rank = 0;
    int64_t id = 0;
  };
  BytePairEncoder() = default;
  const Merge* FindMerge(int64_t left, int64_t right) const;

  std::array<int64_t, 256> byte_ids_{};      ///< Of a byte inside a word.
  std::array<int64_t, 256> end_byte_ids_{};  ///< Of a word's last byte.
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace imageddpo
