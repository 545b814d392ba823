#include "trainer/algo/loss_scaler.h"

#include <algorithm>
#include <cmath>

namespace imageddpo {

LossScaler::Verdict LossScaler::Judge(bool is_finite) {
  if (!is_finite) {
    good_updates_ = 0;
    if (scale_ <= 1) return Verdict::kStop;
    scale_ /= 2;
    ++skipped_;
    return Verdict::kSkip;
  }
  if (enabled_ && ++good_updates_ >= kUpdatesToGrow) {
    good_updates_ = 0;
    scale_ = std::min(2 * scale_, kLargestScale);
  }
  return Verdict::kStep;
}

nlohmann::ordered_json LossScaler::ToJson() const {
  return {{"scale", scale_}, {"good_updates", good_updates_}, {"skipped_updates", skipped_}};
}

void LossScaler::Restore(const nlohmann::json& state) {
  const auto scale = state.at("scale").get<double>();
  const int64_t good_updates = state.at("good_updates"), skipped = state.at("skipped_updates");
  scale_ = std::exp2(std::round(std::log2(std::clamp(scale, 1.0, kLargestScale))));
  good_updates_ = good_updates;
  skipped_ = skipped;
}

}  // namespace imageddpo
