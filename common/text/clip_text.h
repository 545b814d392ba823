#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imageddpo {

/// The text side of CLIP's tokenizer, before byte-pair encoding.

/// Valid UTF-8: each malformed byte becomes U+FFFD.
std::string SanitizeUtf8(std::string_view text);

/// NFC, each run of white space to one space, lower case (character by character, without context).
/// @param text  valid UTF-8.
std::string NormalizeClipText(std::string_view text);

/// Cuts normalised text into the words that byte-pair encoding works on: the literals
/// <|startoftext|> and <|endoftext|> (in three words), the contractions 's 't 're 've 'm 'll 'd,
/// runs of letters, single digits, runs of anything else but white space. The views point into
/// `text`.
std::vector<std::string_view> SplitClipWords(std::string_view text);

}  // namespace imageddpo
