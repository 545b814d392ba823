#include "common/text/byte_pair_encoder.h"

#include <queue>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr char kEndOfWord[] = "</w>";

/// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others, in order, for U+0100
/// and up.
std::array<std::string, 256> ByteAlphabet() {
  std::array<std::string, 256> alphabet;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    const int code = printable ? byte : next++;
    if (code < 0x80) {
      alphabet[byte] = std::string(1, static_cast<char>(code));
    } else {  // Two bytes of UTF-8.
      alphabet[byte] = {static_cast<char>(0xC0 | code >> 6),
                        static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return alphabet;
}

uint64_t PairKey(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

}  // namespace

absl::StatusOr<BytePairEncoder> BytePairEncoder::Create(
    const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
    int64_t unknown_id) {
  BytePairEncoder encoder;
  const std::array<std::string, 256> alphabet = ByteAlphabet();
  const auto id_or_unknown = [&](const std::string& token) {
    const auto it = vocabulary.find(token);
    return it == vocabulary.end() ? unknown_id : it->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    encoder.byte_ids_[byte] = id_or_unknown(alphabet[byte]);
    encoder.end_byte_ids_[byte] = id_or_unknown(absl::StrCat(alphabet[byte], kEndOfWord));
  }
  encoder.merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto left_it = vocabulary.find(left);
    const auto right_it = vocabulary.find(right);
    const auto merged_it = vocabulary.find(left + right);
    if (left_it == vocabulary.end() || right_it == vocabulary.end() ||
        merged_it == vocabulary.end()) {
      const std::string& missing = left_it == vocabulary.end()    ? left
                                   : right_it == vocabulary.end() ? right
                                                                  : left + right;
      return absl::InvalidArgumentError(absl::StrCat("merge ", rank + 1, " (\"", left, " ", right,
                                                     "\"): \"", missing,
                                                     "\" is not in the vocabulary"));
    }
    encoder.merges_[PairKey(left_it->second, right_it->second)] = {static_cast<int64_t>(rank),
                                                                   merged_it->second};
  }
  return encoder;
}

const BytePairEncoder::Merge* BytePairEncoder::FindMerge(int64_t left, int64_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BytePairEncoder::Encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (word.empty()) return;
  // A doubly linked list of symbols; merging keeps the left one and unlinks the right one.
  struct Symbol {
    int64_t id;
    int prev, next;
    bool alive;
  };
  const int size = static_cast<int>(word.size());
  std::vector<Symbol> symbols(word.size());
  for (int i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    const bool last = i + 1 == size;
    symbols[i] = {last ? end_byte_ids_[byte] : byte_ids_[byte], i - 1, last ? -1 : i + 1, true};
  }
  // Best merge first: lowest rank, then leftmost. Entries whose pair has changed since are skipped.
  using Entry =
      std::tuple<int64_t, int, int64_t, int64_t>;  // Rank, position, ids of left and right.
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  const auto push = [&](int left) {
    const int right = left < 0 ? -1 : symbols[left].next;
    if (right < 0) return;
    if (const Merge* merge = FindMerge(symbols[left].id, symbols[right].id)) {
      queue.emplace(merge->rank, left, symbols[left].id, symbols[right].id);
    }
  };
  for (int i = 0; i < size; ++i) push(i);
  while (!queue.empty()) {
    const auto [rank, left, left_id, right_id] = queue.top();
    queue.pop();
    const int right = symbols[left].next;
    if (!symbols[left].alive || right < 0 || symbols[left].id != left_id ||
        symbols[right].id != right_id)
      continue;
    symbols[left].id = FindMerge(left_id, right_id)->id;
    symbols[left].next = symbols[right].next;
    symbols[right].alive = false;
    if (symbols[left].next >= 0) symbols[symbols[left].next].prev = left;
    push(symbols[left].prev);
    push(left);
  }
  for (int i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace imageddpo
