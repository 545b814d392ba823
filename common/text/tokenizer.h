#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

struct TokenizerFiles;

/// CLIP's byte-level BPE tokenizer, as transformers runs it: NFC, runs of white space to one space,
/// lower case, a split into contractions, words, single digits and runs of other characters,
/// byte-level BPE with "</w>" at word ends. Immutable after Load(): threads may share one.
class ClipTokenizer {
 public:
  /// Reads a diffusers `tokenizer/` folder: tokenizer_config.json, special_tokens_map.json
  /// (optional) and vocab.json + merges.txt, or tokenizer.json where these are absent. Errors:
  /// NotFound (a file is missing), InvalidArgument (malformed, model_max_length absent, a special
  /// token that is not in the vocabulary), Unimplemented (another tokenizer's settings); each names
  /// the file and the entry.
  static absl::StatusOr<std::unique_ptr<ClipTokenizer>> Load(const std::string& tokenizer_dir);

  /// What a tokenizer's own files do not say.
  struct Settings {
    int64_t max_length = 0;  ///< At least 2.
    int64_t bos_id = 0, eos_id = 0, pad_id = 0;
  };
  /// The tokenizer of a vocabulary and its merges: the contents of a vocab.json and a merges.txt.
  /// `<|startoftext|>` and `<|endoftext|>` in a text are special tokens where the vocabulary has
  /// them.
  /// @param where  what they belong to, for messages.
  /// @return INVALID_ARGUMENT, malformed, or an id that is not in the vocabulary.
  static absl::StatusOr<std::unique_ptr<ClipTokenizer>> FromTexts(const std::string& where,
                                                                  std::string_view vocab,
                                                                  std::string_view merges,
                                                                  const Settings& settings);

  ~ClipTokenizer();
  ClipTokenizer(const ClipTokenizer&) = delete;
  ClipTokenizer& operator=(const ClipTokenizer&) = delete;

  /// Token ids: bos, at most max_length() - 2 tokens of the text, eos, padding; always max_length()
  /// of them.
  /// @param text  UTF-8; each malformed byte counts as U+FFFD.
  std::vector<int64_t> Encode(std::string_view text) const;

  /// Whether the text has more tokens than Encode() keeps.
  bool IsCut(std::string_view text) const;

  /// Tokens of one encoded text (77 for Stable Diffusion).
  int64_t max_length() const;
  /// Number of ids, 1 + the largest one: what the text encoder's embedding must hold.
  int64_t vocabulary_size() const;

 private:
  struct Impl;
  explicit ClipTokenizer(std::unique_ptr<Impl> impl);
  static absl::StatusOr<std::unique_ptr<ClipTokenizer>> Make(const std::string& where,
                                                             const TokenizerFiles& files);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imageddpo
