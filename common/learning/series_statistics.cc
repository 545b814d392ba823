#include "common/learning/series_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace imageddpo {
namespace {

constexpr double kMedianOfAbsoluteNormal = 0.6745;

}  // namespace

double MeanOf(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double NoiseOf(absl::Span<const double> values) {
  if (values.size() < 2) return 0;
  std::vector<double> steps;
  for (size_t i = 1; i < values.size(); ++i) steps.push_back(std::abs(values[i] - values[i - 1]));
  const auto middle = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), middle, steps.end());
  return *middle / (std::sqrt(2.0) * kMedianOfAbsoluteNormal);
}

Change ChangeOf(absl::Span<const double> values) {
  const size_t window = std::clamp(values.size() / 4, kShortestWindow, kLongestWindow);
  return {.window = window,
          .first = MeanOf(values.subspan(0, window)),
          .last = MeanOf(values.subspan(values.size() - window)),
          .error = NoiseOf(values) * std::sqrt(2.0 / static_cast<double>(window))};
}

}  // namespace imageddpo
