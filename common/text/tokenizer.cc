#include "common/text/tokenizer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/text/byte_pair_encoder.h"
#include "common/text/clip_text.h"
#include "common/text/tokenizer_files.h"

namespace imageddpo {
namespace {

/// A text that is looked for, and the id that stands for it.
struct Pattern {
  std::string text;
  int64_t id = 0;
};

/// Calls on_text(piece) and on_token(id) in order: the leftmost pattern first, the longest of those
/// at one place.
template <typename OnText, typename OnToken>
void SplitAtPatterns(std::string_view text, const std::vector<Pattern>& patterns,
                     const OnText& on_text, const OnToken& on_token) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Pattern* found = nullptr;
    for (const Pattern& pattern : patterns) {
      if (text.compare(at, pattern.text.size(), pattern.text) != 0) continue;
      if (found == nullptr || pattern.text.size() > found->text.size()) found = &pattern;
    }
    if (found == nullptr) {
      ++at;
      continue;
    }
    if (at > begin) on_text(text.substr(begin, at - begin));
    on_token(found->id);
    at += found->text.size();
    begin = at;
  }
  if (begin < text.size()) on_text(text.substr(begin));
}

}  // namespace

struct ClipTokenizer::Impl {
  Impl(BytePairEncoder encoder_in, const TokenizerFiles& files)
      : encoder(std::move(encoder_in)),
        bos_id(files.bos_id),
        eos_id(files.eos_id),
        pad_id(files.pad_id),
        max_length(files.max_length) {
    for (const auto& [token, id] : files.vocabulary)
      vocabulary_size = std::max(vocabulary_size, id + 1);
    for (const SpecialToken& token : files.special_tokens) {
      vocabulary_size = std::max(vocabulary_size, token.id + 1);
      if (token.normalized) {
        normalized_patterns.push_back({NormalizeClipText(SanitizeUtf8(token.content)), token.id});
      } else {
        raw_patterns.push_back({token.content, token.id});
      }
    }
  }

  /// Of the text alone, without bos and eos.
  std::vector<int64_t> Tokens(std::string_view text) const;
  void EncodeText(std::string_view text, std::vector<int64_t>& ids) const {
    for (std::string_view word : SplitClipWords(text)) encoder.Encode(word, ids);
  }

  BytePairEncoder encoder;
  std::vector<Pattern> raw_patterns;         ///< Looked for in the text as given.
  std::vector<Pattern> normalized_patterns;  ///< Looked for in the normalised text.
  int64_t bos_id, eos_id, pad_id;
  int64_t max_length;
  int64_t vocabulary_size = 0;
};

absl::StatusOr<std::unique_ptr<ClipTokenizer>> ClipTokenizer::Load(
    const std::string& tokenizer_dir) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const TokenizerFiles files, ReadTokenizerFiles(tokenizer_dir));
  return Make(tokenizer_dir, files);
}

absl::StatusOr<std::unique_ptr<ClipTokenizer>> ClipTokenizer::FromTexts(const std::string& where,
                                                                        std::string_view vocab,
                                                                        std::string_view merges,
                                                                        const Settings& settings) {
  TokenizerFiles files{.bos_id = settings.bos_id,
                       .eos_id = settings.eos_id,
                       .pad_id = settings.pad_id,
                       .unk_id = settings.eos_id,
                       .max_length = settings.max_length};
  IMAGEDDPO_RETURN_IF_ERROR(ReadVocabAndMerges(where, vocab, merges, files));
  std::set<int64_t> ids;
  for (const auto& [token, id] : files.vocabulary) ids.insert(id);
  for (const int64_t id : {settings.bos_id, settings.eos_id, settings.pad_id}) {
    if (!ids.contains(id)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": the vocabulary has no token with the id ", id));
    }
  }
  for (const char* content : {"<|startoftext|>", "<|endoftext|>"}) {
    const auto found = files.vocabulary.find(content);
    if (found != files.vocabulary.end()) files.special_tokens.push_back({content, found->second});
  }
  return Make(where, files);
}

absl::StatusOr<std::unique_ptr<ClipTokenizer>> ClipTokenizer::Make(const std::string& where,
                                                                   const TokenizerFiles& files) {
  absl::StatusOr<BytePairEncoder> encoder =
      BytePairEncoder::Create(files.vocabulary, files.merges, files.unk_id);
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(encoder.status(), where));
  return std::unique_ptr<ClipTokenizer>(
      new ClipTokenizer(std::make_unique<Impl>(*std::move(encoder), files)));
}

ClipTokenizer::ClipTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClipTokenizer::~ClipTokenizer() = default;

std::vector<int64_t> ClipTokenizer::Impl::Tokens(std::string_view text) const {
  std::vector<int64_t> ids;
  const auto add_id = [&ids](int64_t id) { ids.push_back(id); };
  const std::string valid = SanitizeUtf8(text);
  const auto encode_piece = [&](std::string_view piece) {
    const std::string normalized = NormalizeClipText(piece);
    SplitAtPatterns(
        normalized, normalized_patterns, [&](std::string_view part) { EncodeText(part, ids); },
        add_id);
  };
  SplitAtPatterns(valid, raw_patterns, encode_piece, add_id);
  return ids;
}

bool ClipTokenizer::IsCut(std::string_view text) const {
  const auto kept = static_cast<size_t>(impl_->max_length - 2);
  // A token is at least a byte, or one of three for a byte that is not UTF-8.
  return 3 * text.size() > kept && impl_->Tokens(text).size() > kept;
}

std::vector<int64_t> ClipTokenizer::Encode(std::string_view text) const {
  const auto length = static_cast<size_t>(impl_->max_length);
  std::vector<int64_t> ids = impl_->Tokens(text);
  if (ids.size() > length - 2) ids.resize(length - 2);
  ids.insert(ids.begin(), impl_->bos_id);
  ids.push_back(impl_->eos_id);
  ids.resize(length, impl_->pad_id);
  return ids;
}

int64_t ClipTokenizer::max_length() const { return impl_->max_length; }
int64_t ClipTokenizer::vocabulary_size() const { return impl_->vocabulary_size; }

}  // namespace imageddpo
