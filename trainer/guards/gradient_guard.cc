#include "trainer/guards/gradient_guard.h"

#include <cmath>

namespace imageddpo {

bool GradientGuard::Judge(double norm) {
  if (!enabled()) return true;
  const double std = count_ > 0 ? std::sqrt(squares_ / static_cast<double>(count_)) : 0;
  if (count_ >= kFirstUpdates && norm > mean_ + max_zscore_ * std) {
    if (in_a_row_ < kMostInARow) {
      ++in_a_row_;
      ++skipped_;
      return false;
    }
    count_ = 0;
    mean_ = squares_ = 0;
  }
  in_a_row_ = 0;
  ++count_;
  const double distance = norm - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (norm - mean_);
  return true;
}

nlohmann::ordered_json GradientGuard::ToJson() const {
  return {{"count", count_},
          {"mean", mean_},
          {"squares", squares_},
          {"skipped_in_a_row", in_a_row_},
          {"skipped_updates", skipped_}};
}

void GradientGuard::Restore(const nlohmann::json& state) {
  GradientGuard restored(max_zscore_);
  state.at("count").get_to(restored.count_);
  state.at("mean").get_to(restored.mean_);
  state.at("squares").get_to(restored.squares_);
  state.at("skipped_in_a_row").get_to(restored.in_a_row_);
  state.at("skipped_updates").get_to(restored.skipped_);
  *this = restored;
}

}  // namespace imageddpo
