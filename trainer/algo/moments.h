#pragma once

#include <cmath>

namespace imageddpo {

struct Moments {
  double mean = 0.0;
  double std = 0.0;  ///< Of the population.
};

/// Computed in two passes, in double. Rewards are float32 values, so equal ones have a standard
/// deviation of exactly 0. Zeros of no values.
template <typename Container>
Moments MomentsOf(const Container& values) {
  Moments moments;
  if (values.empty()) return moments;
  const auto n = static_cast<double>(values.size());
  for (double value : values) moments.mean += value;
  moments.mean /= n;
  double squares = 0.0;
  for (double value : values) squares += (value - moments.mean) * (value - moments.mean);
  moments.std = std::sqrt(squares / n);
  return moments;
}

}  // namespace imageddpo
