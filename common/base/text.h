#pragma once

#include <string>
#include <string_view>

namespace imageddpo {

/// Text from outside (a file name, a library's message, a host name) as valid UTF-8, which
/// messages, rows and metrics have to be. Text that is valid UTF-8 stays as it is. Otherwise each
/// byte that belongs to no valid character is written as `\xHH`, two upper-case hexadecimal digits,
/// and each backslash as `\x5C`; the same is done to valid text that has a `\xHH` in it already. So
/// two different texts never become the same one, and what was valid without `\xHH` reads as
/// before.
std::string ValidText(std::string_view text);

bool IsValidUtf8(std::string_view text);

}  // namespace imageddpo
