#include "rollout/data/listing/csv.h"

#include <algorithm>

#include "common/base/status.h"

namespace imageddpo {

absl::StatusOr<std::string> CsvReader::QuotedField() {
  std::string field;
  rest_.remove_prefix(1);
  while (true) {
    const size_t quote = rest_.find('"');
    if (quote == std::string_view::npos) {
      return absl::InvalidArgumentError("a field begins with a double quote that is never closed");
    }
    next_line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + quote, '\n'));
    field += rest_.substr(0, quote);
    rest_.remove_prefix(quote + 1);
    if (rest_.empty() || rest_.front() != '"') return field;
    field += '"';
    rest_.remove_prefix(1);
  }
}

absl::StatusOr<std::vector<std::string>> CsvReader::Next() {
  while (!rest_.empty() && (rest_.front() == '\n' || rest_.front() == '\r')) {
    if (rest_.front() == '\n') ++next_line_;
    rest_.remove_prefix(1);
  }
  line_ = next_line_;
  std::vector<std::string> fields;
  while (!rest_.empty()) {
    if (rest_.front() == '"') {
      IMAGEDDPO_ASSIGN_OR_RETURN(std::string field, QuotedField());
      fields.push_back(std::move(field));
    } else {
      const char ends[] = {delimiter_, '\r', '\n'};
      const size_t size = std::min(rest_.find_first_of({ends, 3}), rest_.size());
      fields.emplace_back(rest_.substr(0, size));
      rest_.remove_prefix(size);
    }
    if (rest_.empty()) break;
    const char end = rest_.front();
    if (end != delimiter_ && end != '\r' && end != '\n') {
      return absl::InvalidArgumentError(
          "text follows the double quote that closes a field; a quote within a field is written "
          "twice");
    }
    rest_.remove_prefix(1);
    if (end == delimiter_) {
      if (rest_.empty()) fields.emplace_back();
      continue;
    }
    if (end == '\r' && !rest_.empty() && rest_.front() == '\n') rest_.remove_prefix(1);
    ++next_line_;
    break;
  }
  return fields;
}

}  // namespace imageddpo
