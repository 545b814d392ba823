#include "trainer/guards/update_guards.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <limits>

namespace imageddpo {
namespace {

// The entries in state.json.
constexpr char kOutlierEntry[] = "gradient_guard";
constexpr char kUpdateEntry[] = "update_guards";

}  // namespace

UpdateGuards::UpdateGuards(const GuardsSettings& settings, double max_grad_zscore)
    : settings_(settings),
      outliers_(max_grad_zscore),
      spikes_(settings.gradient_spike.policy == GuardPolicy::kOff
                  ? 0
                  : settings.gradient_spike.threshold) {}

bool UpdateGuards::Accepts(double norm) {
  in_a_row_ = 0;
  if (!outliers_.Judge(norm)) return false;
  if (spikes_.Judge(norm)) return true;
  spike_norm_ = norm;
  return settings_.gradient_spike.policy == GuardPolicy::kWarn;
}

absl::Status UpdateGuards::EndUpdate(int64_t epoch, int64_t update) {
  const double norm = std::exchange(spike_norm_, 0);
  if (norm == 0) return absl::OkStatus();
  const Firing firing{.guard = Guard::kGradientSpike,
                      .epoch = epoch,
                      .value = norm,
                      .limit = settings_.gradient_spike.threshold,
                      .good_epochs = epoch,
                      .what = absl::StrCat("the gradient of update ", update, " has the norm ",
                                           norm, ", more than ", settings_.gradient_spike.threshold,
                                           " standard deviations above those before")};
  return Act(firing);
}

absl::Status UpdateGuards::NotFinite(int64_t epoch, int64_t update) {
  Firing firing{.guard = Guard::kNonFinite,
                .epoch = epoch,
                .value = std::numeric_limits<double>::quiet_NaN(),
                .limit = 0,
                .good_epochs = epoch,
                .what = absl::StrCat("the gradient of update ", update,
                                     " is not finite; lower train.learning_rate or "
                                     "train.clip_range, or go on from an earlier checkpoint")};
  if (skips_non_finite() && ++in_a_row_ > kMostInARow) {
    firing.cannot_skip = true;
    absl::StrAppend(&firing.what, "; so were the ", kMostInARow, " before it");
  } else if (skips_non_finite()) {
    ++skipped_;
  }
  return Act(firing);
}

absl::Status UpdateGuards::Act(const Firing& firing) {
  const absl::Status status = ActionStatus(firing, settings_);
  const bool is_told = std::any_of(firings_.begin(), firings_.end(), [&](const Firing& other) {
    return other.guard == firing.guard && other.epoch == firing.epoch;
  });
  if (!is_told || !status.ok()) firings_.push_back(firing);
  return status;
}

void UpdateGuards::AddTo(nlohmann::ordered_json* state) const {
  if (outliers_.enabled()) (*state)[kOutlierEntry] = outliers_.ToJson();
  (*state)[kUpdateEntry] = {
      {"spikes", spikes_.ToJson()}, {"not_finite_in_a_row", in_a_row_}, {"skipped", skipped_}};
}

void UpdateGuards::Restore(const nlohmann::json& state) {
  UpdateGuards restored = *this;
  if (outliers_.enabled() && state.contains(kOutlierEntry)) {
    restored.outliers_.Restore(state.at(kOutlierEntry));
  }
  if (state.contains(kUpdateEntry)) {
    const nlohmann::json& updates = state.at(kUpdateEntry);
    restored.spikes_.Restore(updates.at("spikes"));
    updates.at("not_finite_in_a_row").get_to(restored.in_a_row_);
    updates.at("skipped").get_to(restored.skipped_);
  }
  *this = std::move(restored);
}

}  // namespace imageddpo
