#pragma once

#include <algorithm>
#include <cstdint>

namespace imageddpo {

/// Index in a schedule of num_steps of the first step that is run for a noise strength:
/// clamp(int(num_steps·(1 - noise_strength)), 0, num_steps - 1). The product is truncated in
/// double: another precision or order of operations shifts some schedules by a step.
/// @param num_steps       at least 1.
/// @param noise_strength  in [0, 1].
inline int64_t FirstExecutedStep(int64_t num_steps, double noise_strength) {
  const auto start = static_cast<int64_t>(static_cast<double>(num_steps) * (1.0 - noise_strength));
  return std::clamp<int64_t>(start, 0, num_steps - 1);
}

}  // namespace imageddpo
