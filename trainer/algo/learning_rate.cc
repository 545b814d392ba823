#include "trainer/algo/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace imageddpo {

double LearningRateOf(int64_t update, const LearningRateSettings& settings) {
  const int64_t warmup = settings.warmup_updates;
  if (update < warmup) {
    return settings.peak * (static_cast<double>(update + 1) / static_cast<double>(warmup));
  }
  if (settings.kind == LearningRateKind::kConstant) return settings.peak;
  const auto length = static_cast<double>(std::max<int64_t>(1, settings.total_updates - warmup));
  const double share = std::min(1.0, static_cast<double>(update - warmup) / length);
  const double height = (1 + std::cos(std::numbers::pi * share)) / 2;
  return settings.peak * (settings.min_ratio + (1 - settings.min_ratio) * height);
}

}  // namespace imageddpo
