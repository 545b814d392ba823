#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

// Text for people. All functions are pure; widths are columns of a terminal, for text in which
// every character is one column wide.
namespace imageddpo {

/// "0.4s", "42s", "3m12s", "2h05m", "3d04h"; "-" for negative and non-finite times.
std::string FormatDuration(double seconds);

/// A number with about `digits` significant digits: "1.53", "-0.0012", "1.2e-05", "12800"; "nan".
std::string FormatNumber(double value, int digits = 4);

/// "2026-01-31 08:15:30" in UTC; "-" for a time that is not set.
std::string FormatTime(const google::protobuf::Timestamp& time);

/// Of `start` to `end`, both set; else "-".
std::string FormatSpan(const google::protobuf::Timestamp& start,
                       const google::protobuf::Timestamp& end);

/// The last values as small bars, one column each, at most `width`; older values are averaged
/// together so that the whole history shows. Non-finite values are gaps.
std::string Sparkline(const std::vector<double>& values, size_t width);

/// A bar of `width` columns, filled to eighths of a column. fraction is cut to [0,1].
std::string ProgressBar(double fraction, size_t width);

/// How many columns UTF-8 text takes.
size_t DisplayWidth(const std::string& text);

/// Cut to `width` columns, the last of them "…" where something was cut.
std::string Truncate(const std::string& text, size_t width);

/// Text of unknown origin on one line of a terminal: Printable(), with "; " for a newline.
std::string OneLine(const std::string& text);

/// Rows under headings, in columns two blanks apart, without blanks at the ends of lines. Columns
/// whose heading ends in "#" (which is not shown) are aligned to the right.
std::string FormatTable(const std::vector<std::string>& headings,
                        const std::vector<std::vector<std::string>>& rows);

}  // namespace imageddpo
