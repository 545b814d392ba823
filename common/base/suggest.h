#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace imageddpo {

/// How many single-character insertions, deletions, replacements and swaps of neighbours turn
/// `from` into `to` (the restricted Damerau-Levenshtein distance), in bytes.
std::size_t EditDistance(absl::string_view from, absl::string_view to);

/// The candidate closest to a misspelt word, for "did you mean"; the first of several equally
/// close. Differences in case, or between '-' and '_', are ignored. Nothing if even the closest
/// differs in more than a third of the word's characters (at least one is allowed).
std::optional<std::string> ClosestMatch(absl::string_view word,
                                        const std::vector<std::string>& candidates);

/// "; did you mean `WORD`?" with ClosestMatch(), to end a message with; "" where nothing is close.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace imageddpo
