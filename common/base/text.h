#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

// Text from outside (file names, captions, messages of libraries, host names) at the border of what
// has to be valid UTF-8: messages, rows, metrics, logs and terminals. There is one escape, `\xHH`
// with two upper-case hexadecimal digits, which stands for one byte.
namespace imageddpo {

/// The text as a name. Text that is valid UTF-8 stays as it is. Otherwise each byte that belongs to
/// no valid character is written as `\xHH`, and each backslash as `\x5C`; the same is done to valid
/// text that has a `\xHH` in it already. So two different texts never become the same one, and what
/// was valid without `\xHH` reads as before.
std::string ValidText(std::string_view text);

/// The inverse of ValidText(). A text that ValidText() never returns stays as it is.
std::string BytesOf(std::string_view valid_text);

/// The path that a setting or a file_name means: BytesOf(text), so that a name can be given as
/// ValidText() shows it, or `text` itself if a file exists only there. Relative if `text` is.
/// @param dir  where a relative path starts; empty: the working directory.
std::string PathOf(const std::string& text, const std::string& dir = "");

/// The text as part of a message, which may hold names as ValidText() already: each byte that
/// belongs to no valid character as `\xHH`, everything else as it is.
std::string ValidMessage(std::string_view text);

/// ValidMessage() for a terminal or a log's line: control characters, line separators and
/// characters that change the direction of writing are escaped as `\xHH` too, and so are newlines
/// unless they are kept.
std::string Printable(std::string_view text, bool keep_newlines = false);

/// JSON with the characters above U+007E that Printable() would escape as `\uHHHH`, which JSON and
/// YAML read back.
std::string PrintableJson(std::string_view json);

/// ValidMessage(), cut between two characters to at most `max_bytes` and "…" where it is longer.
std::string Excerpt(std::string_view text, size_t max_bytes);

bool IsValidUtf8(std::string_view text);

/// What a file of text holds, without its byte order mark.
/// @return INVALID_ARGUMENT naming file, line and remedy where that is not UTF-8.
absl::StatusOr<std::string_view> Utf8Of(std::string_view bytes, std::string_view file);

/// JSON as Python writes it: Infinity, -Infinity and NaN, which it writes as bare words and which
/// JSON does not know, become null. Texts in quotes stay as they are.
std::string NonFiniteAsNull(std::string_view json);

inline constexpr int kMostJsonLevels = 100;
/// To be called before JSON from outside is parsed: what copies or shows it calls itself for each
/// level, so a file of brackets would use up the stack and end the process.
/// @return INVALID_ARGUMENT naming the file where more than kMostJsonLevels lists and objects stand
///         in each other. OK for other text, JSON or not.
absl::Status CheckJsonDepth(std::string_view json, std::string_view file);

}  // namespace imageddpo
