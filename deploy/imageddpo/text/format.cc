#include "deploy/imageddpo/text/format.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

// Where UTF-8 characters begin.
bool IsFirstByte(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

bool IsSet(const google::protobuf::Timestamp& time) {
  return time.seconds() != 0 || time.nanos() != 0;
}

// At most `width` means of neighbouring values; non-finite ones do not count.
std::vector<double> Condense(const std::vector<double>& values, size_t width) {
  if (values.size() <= width) return values;
  std::vector<double> means;
  for (size_t i = 0; i < width; ++i) {
    double sum = 0;
    double count = 0;
    for (size_t j = i * values.size() / width; j < (i + 1) * values.size() / width; ++j) {
      if (!std::isfinite(values[j])) continue;
      sum += values[j];
      count += 1;
    }
    means.push_back(sum / count);  // NaN where none was finite.
  }
  return means;
}

}  // namespace

std::string FormatDuration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "-";
  if (seconds < 9.95) return absl::StrFormat("%.1fs", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return absl::StrFormat("%ds", whole);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  const int64_t minutes = whole / 60;
  if (minutes < 24 * 60) return absl::StrFormat("%dh%02dm", minutes / 60, minutes % 60);
  const int64_t hours = minutes / 60;
  return absl::StrFormat("%dd%02dh", hours / 24, hours % 24);
}

std::string FormatNumber(double value, int digits) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return "0";
  return absl::StrFormat("%.*g", digits, value);
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (!IsSet(time)) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", ToTime(time), absl::UTCTimeZone());
}

std::string FormatSpan(const google::protobuf::Timestamp& start,
                       const google::protobuf::Timestamp& end) {
  if (!IsSet(start) || !IsSet(end)) return "-";
  return FormatDuration(absl::ToDoubleSeconds(ToTime(end) - ToTime(start)));
}

std::string Sparkline(const std::vector<double>& values, size_t width) {
  static constexpr std::array kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::vector<double> points = Condense(values, width);
  double low = INFINITY;
  double high = -INFINITY;
  for (const double value : points) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  std::string line;
  for (const double value : points) {
    if (!std::isfinite(value)) {
      line += " ";
    } else if (high == low) {
      line += kBars[3];
    } else {
      const double height =
          (value / 2 - low / 2) / (high / 2 - low / 2);  // Halves cannot overflow.
      line += kBars[std::min<size_t>(kBars.size() - 1, static_cast<size_t>(height * kBars.size()))];
    }
  }
  return line;
}

std::string ProgressBar(double fraction, size_t width) {
  static constexpr std::array kParts = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!std::isfinite(fraction)) fraction = 0;
  const auto eighths = static_cast<size_t>(
      std::floor(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(width) * 8));
  std::string bar;
  for (size_t i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kParts[eighths % 8];
  const size_t used = eighths / 8 + (eighths % 8 == 0 ? 0 : 1);
  bar.append(width - used, ' ');
  return bar;
}

size_t DisplayWidth(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), IsFirstByte));
}

std::string Truncate(const std::string& text, size_t width) {
  if (DisplayWidth(text) <= width) return text;
  if (width == 0) return "";
  std::string cut;
  size_t columns = 0;
  for (const char c : text) {
    if (IsFirstByte(c) && ++columns > width - 1) break;
    cut.push_back(c);
  }
  return cut + "…";
}

std::string OneLine(const std::string& text) {
  return Printable(absl::StrReplaceAll(text, {{"\n", "; "}}));
}

std::string FormatTable(const std::vector<std::string>& headings,
                        const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::string> titles = headings;
  std::vector<bool> is_right(titles.size(), false);
  std::vector<size_t> widths;
  for (size_t column = 0; column < titles.size(); ++column) {
    if (!titles[column].empty() && titles[column].back() == '#') {
      titles[column].pop_back();
      is_right[column] = true;
    }
    size_t width = DisplayWidth(titles[column]);
    for (const auto& row : rows) {
      if (column < row.size()) width = std::max(width, DisplayWidth(row[column]));
    }
    widths.push_back(width);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t column = 0; column < cells.size() && column < widths.size(); ++column) {
      const std::string padding(widths[column] - DisplayWidth(cells[column]), ' ');
      absl::StrAppend(&text, column == 0 ? "" : "  ", is_right[column] ? padding : "",
                      cells[column], is_right[column] ? "" : padding);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text + "\n";
  };
  std::string table = line(titles);
  for (const auto& row : rows) table += line(row);
  return table;
}

}  // namespace imageddpo
