#include "common/base/suggest.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

std::string Normalize(absl::string_view word) {
  std::string normalized = absl::AsciiStrToLower(word);
  std::replace(normalized.begin(), normalized.end(), '-', '_');
  return normalized;
}

}  // namespace

std::size_t EditDistance(absl::string_view from, absl::string_view to) {
  // Rows of the usual table for the prefixes of `from` that end two before, one before and at i.
  std::vector<std::size_t> two_before(to.size() + 1);
  std::vector<std::size_t> before(to.size() + 1);
  std::vector<std::size_t> row(to.size() + 1);
  for (std::size_t j = 0; j <= to.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= from.size(); ++i) {
    two_before.swap(before);
    before.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t replaced = before[j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1);
      row[j] = std::min({before[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1]) {
        row[j] = std::min(row[j], two_before[j - 2] + 1);
      }
    }
  }
  return row[to.size()];
}

std::optional<std::string> ClosestMatch(absl::string_view word,
                                        const std::vector<std::string>& candidates) {
  const std::string normalized = Normalize(word);
  const std::size_t limit = std::max<std::size_t>(1, normalized.size() / 3);
  std::optional<std::string> closest;
  std::size_t closest_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = EditDistance(normalized, Normalize(candidate));
    if (distance < closest_distance) {
      closest_distance = distance;
      closest = candidate;
    }
  }
  return closest;
}

std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates) {
  const std::optional<std::string> closest = ClosestMatch(word, candidates);
  return closest ? absl::StrCat("; did you mean `", *closest, "`?") : "";
}

}  // namespace imageddpo
