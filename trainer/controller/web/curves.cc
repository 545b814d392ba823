#include "trainer/controller/web/curves.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

/// The numbers of a row by name; keys that say which row it is are left out.
void Flatten(const nlohmann::json& value, const std::string& name,
             std::map<std::string, double>* numbers) {
  static const std::set<std::string> kPlaces = {"epoch", "inner_epoch", "update", "samples_seen"};
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      if (name.empty() && kPlaces.contains(key)) continue;
      Flatten(item, name.empty() ? key : absl::StrCat(name, ".", key), numbers);
    }
  } else if (value.is_number()) {
    (*numbers)[name] = value.get<double>();
  } else if (value.is_boolean()) {
    (*numbers)[name] = value.get<bool>() ? 1 : 0;
  } else if (value.is_null()) {
    (*numbers)[name] = kNoNumber;
  }
}

/// x of each row: rows of one epoch, which follow each other, share it evenly.
std::vector<double> Places(const std::vector<int64_t>& epochs) {
  std::vector<double> places;
  for (size_t begin = 0, end = 0; begin < epochs.size(); begin = end) {
    while (end < epochs.size() && epochs[end] == epochs[begin]) ++end;
    for (size_t i = begin; i < end; ++i) {
      places.push_back(static_cast<double>(epochs[begin]) +
                       static_cast<double>(i - begin + 1) / static_cast<double>(end - begin));
    }
  }
  return places;
}

void AppendNumbers(const std::vector<double>& numbers, std::string* text) {
  const char* separator = "";
  for (const double number : numbers) {
    absl::StrAppend(text, separator);
    if (std::isfinite(number)) {
      absl::StrAppend(text, number);
    } else {
      absl::StrAppend(text, "null");
    }
    separator = ",";
  }
}

}  // namespace

CurveTable ReadCurves(std::istream& rows) {
  CurveTable table;
  std::vector<int64_t> epochs;
  std::map<std::string, std::vector<size_t>> rows_of;  // Which rows have a number, by its name.
  for (std::string line; std::getline(rows, line);) {
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("epoch") || !row["epoch"].is_number()) continue;
    std::map<std::string, double> numbers;
    Flatten(row, "", &numbers);
    for (const auto& [name, number] : numbers) {
      table.series[name].y.push_back(number);
      rows_of[name].push_back(epochs.size());
    }
    epochs.push_back(row["epoch"].get<int64_t>());
  }
  const std::vector<double> places = Places(epochs);
  for (auto& [name, series] : table.series) {
    for (const size_t row : rows_of[name]) series.x.push_back(places[row]);
  }
  table.num_rows = epochs.size();
  return table;
}

RowCurve ThinCurve(const RowCurve& series, size_t max_points) {
  const size_t count = series.x.size();
  if (count <= max_points) return series;
  // The first and the last point, and up to three of each stretch in between.
  const size_t stretches = std::max<size_t>((max_points - 2) / 3, 1);
  std::set<size_t> kept = {0, count - 1};
  for (size_t i = 0; i < stretches; ++i) {
    const size_t begin = 1 + i * (count - 2) / stretches;
    const size_t end = 1 + (i + 1) * (count - 2) / stretches;
    size_t least = count, most = count, missing = count;
    for (size_t j = begin; j < end; ++j) {
      if (!std::isfinite(series.y[j])) {
        if (missing == count) missing = j;
        continue;
      }
      if (least == count || series.y[j] < series.y[least]) least = j;
      if (most == count || series.y[j] > series.y[most]) most = j;
    }
    for (const size_t j : {least, most, missing}) {
      if (j < count && kept.size() < max_points) kept.insert(j);
    }
  }
  RowCurve thin;
  for (const size_t i : kept) {
    thin.x.push_back(series.x[i]);
    thin.y.push_back(series.y[i]);
  }
  return thin;
}

RowCurve LastPoints(const RowCurve& series, size_t count) {
  const auto skipped =
      static_cast<std::ptrdiff_t>(series.x.size() - std::min(count, series.x.size()));
  return {.x = {series.x.begin() + skipped, series.x.end()},
          .y = {series.y.begin() + skipped, series.y.end()}};
}

RowCurve AverageCurve(const RowCurve& series, size_t max_points) {
  const size_t count = series.x.size();
  const size_t stretches = std::min(count, std::max<size_t>(max_points, 1));
  RowCurve average;
  for (size_t i = 0; i < stretches; ++i) {
    const size_t begin = i * count / stretches, end = (i + 1) * count / stretches;
    double sum = 0, numbers = 0;
    for (size_t j = begin; j < end; ++j) {
      if (!std::isfinite(series.y[j])) continue;
      sum += series.y[j];
      numbers += 1;
    }
    average.x.push_back(series.x[end - 1]);
    average.y.push_back(numbers > 0 ? sum / numbers : kNoNumber);
  }
  return average;
}

std::string CurvesJson(const CurveTable& table) {
  std::string text = absl::StrCat("{\"rows\":", table.num_rows, ",\"series\":{");
  const char* separator = "";
  for (const auto& [name, series] : table.series) {
    absl::StrAppend(
        &text, separator,
        nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
        ":{\"x\":[");
    AppendNumbers(series.x, &text);
    text += "],\"y\":[";
    AppendNumbers(series.y, &text);
    text += "]}";
    separator = ",";
  }
  return text + "}}\n";
}

}  // namespace imageddpo
