#include "common/metrics/open_metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace imageddpo {
namespace {

constexpr char kTotal[] = "_total";

/// The least digits that are read back as the same number.
std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return std::string(text.data(), end);
}

/// A bound of a histogram: "1.0", "0.25", "+Inf".
std::string BoundText(double value) {
  const std::string text = NumberText(value);
  const bool is_whole = text.find_first_not_of("-0123456789") == std::string::npos;
  return is_whole ? text + ".0" : text;
}

/// Of a label's value or a help.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped.push_back('\\');
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped.push_back(c);
    }
  }
  return escaped;
}

/// Appends a sample. @param bound  of a histogram's bucket; empty: none.
void AppendSample(const std::string& name, const prometheus::ClientMetric& metric,
                  const std::string& bound, const std::string& value, std::string* text) {
  std::string labels;
  for (const auto& [key, label] : metric.label) {
    absl::StrAppend(&labels, labels.empty() ? "" : ",", key, "=\"", Escaped(label), "\"");
  }
  if (!bound.empty()) absl::StrAppend(&labels, labels.empty() ? "" : ",", "le=\"", bound, "\"");
  absl::StrAppend(text, name);
  if (!labels.empty()) absl::StrAppend(text, "{", labels, "}");
  absl::StrAppend(text, " ", value, "\n");
}

void AppendHistogram(const std::string& name, const prometheus::ClientMetric& metric,
                     std::string* text) {
  const prometheus::ClientMetric::Histogram& histogram = metric.histogram;
  double last = -std::numeric_limits<double>::infinity();
  for (const auto& bucket : histogram.bucket) {
    last = bucket.upper_bound;
    AppendSample(name + "_bucket", metric, BoundText(last), absl::StrCat(bucket.cumulative_count),
                 text);
  }
  const std::string count = absl::StrCat(histogram.sample_count);
  if (!std::isinf(last) || last < 0) AppendSample(name + "_bucket", metric, "+Inf", count, text);
  AppendSample(name + "_count", metric, "", count, text);
  AppendSample(name + "_sum", metric, "", NumberText(histogram.sample_sum), text);
}

}  // namespace

bool WantsOpenMetrics(std::string_view accept) {
  double open = 0, plain = 0;
  for (const absl::string_view item :
       absl::StrSplit(absl::string_view(accept.data(), accept.size()), ',')) {
    const std::vector<std::string> parts = absl::StrSplit(absl::AsciiStrToLower(item), ';');
    const absl::string_view type = absl::StripAsciiWhitespace(parts.front());
    double weight = 1;
    bool is_ours = true;
    for (const std::string& part : parts) {
      absl::string_view parameter = absl::StripAsciiWhitespace(part);
      if (absl::ConsumePrefix(&parameter, "q=") && !absl::SimpleAtod(parameter, &weight))
        weight = 0;
      if (absl::ConsumePrefix(&parameter, "version=")) is_ours = parameter == "1.0.0";
    }
    if (type == "application/openmetrics-text" && is_ours) open = std::max(open, weight);
    if (type == "text/plain" || type == "text/*" || type == "*/*") plain = std::max(plain, weight);
  }
  return open > 0 && open >= plain;
}

std::string OpenMetricsText(const std::vector<prometheus::MetricFamily>& families) {
  std::string text;
  for (const prometheus::MetricFamily& family : families) {
    const bool is_counter = family.type == prometheus::MetricType::Counter;
    const bool is_histogram = family.type == prometheus::MetricType::Histogram;
    std::string name = family.name;
    if (is_counter) name = std::string(absl::StripSuffix(name, kTotal));
    absl::StrAppend(&text, "# HELP ", name, " ", Escaped(family.help), "\n# TYPE ", name, " ",
                    is_counter     ? "counter"
                    : is_histogram ? "histogram"
                                   : "gauge",
                    "\n");
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (is_histogram) {
        AppendHistogram(name, metric, &text);
      } else {
        AppendSample(is_counter ? name + kTotal : name, metric, "",
                     NumberText(is_counter ? metric.counter.value : metric.gauge.value), &text);
      }
    }
  }
  return text + "# EOF\n";
}

}  // namespace imageddpo
