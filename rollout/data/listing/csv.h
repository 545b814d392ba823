#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// The rows of a CSV text as RFC 4180 describes it: fields in double quotes may hold delimiters,
/// line ends and doubled quotes; lines end in CRLF or LF. Blank lines are passed over.
class CsvReader {
 public:
  /// @param text  valid UTF-8 without a byte order mark; must outlive the reader.
  CsvReader(std::string_view text, char delimiter) : rest_(text), delimiter_(delimiter) {}

  /// The next row; empty at the end. INVALID_ARGUMENT: a quote is not closed, or text follows a
  /// closing quote; line() is the row's then too.
  absl::StatusOr<std::vector<std::string>> Next();
  /// Where the newest row begins, from 1.
  int line() const { return line_; }

 private:
  absl::StatusOr<std::string> QuotedField();

  std::string_view rest_;
  const char delimiter_;
  int line_ = 0;
  int next_line_ = 1;
};

}  // namespace imageddpo
