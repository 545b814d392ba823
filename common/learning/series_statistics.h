#pragma once

#include <cstddef>

#include "absl/types/span.h"

namespace imageddpo {

/// The mean; NaN of an empty series.
double MeanOf(absl::Span<const double> values);

/// The standard deviation of a series' noise about its trend, from the differences of neighbours:
/// median |x[i+1] - x[i]| / (√2 · 0.6745), which is σ for independent normal noise. A slow trend
/// adds little to the differences, and single jumps do not move the median. 0 with less than two
/// values.
double NoiseOf(absl::Span<const double> values);

/// Where a series begins and ends, as means over equally long windows, so that noise averages out.
struct Change {
  size_t window = 0;  ///< W, the values in a window.
  double first = 0;   ///< Mean of the first W values.
  double last = 0;    ///< Mean of the last W values.
  double difference() const { return last - first; }
  double error = 0;  ///< Standard error of the difference: NoiseOf() · √(2 / W).
};

/// @param values  at least 2·kShortestWindow. W = size / 4, limited to 2 to 10.
Change ChangeOf(absl::Span<const double> values);

inline constexpr size_t kShortestWindow = 2;
inline constexpr size_t kLongestWindow = 10;

}  // namespace imageddpo
