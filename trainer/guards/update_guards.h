#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "trainer/guards/firing.h"
#include "trainer/guards/gradient_guard.h"

namespace imageddpo {

/// What judges single updates: `train.max_grad_zscore`, which leaves spikes out and goes on, and
/// the guards `guards.gradient_spike` and `guards.non_finite`. All trainers judge the same norms
/// and therefore decide alike. Thread-compatible.
class UpdateGuards {
 public:
  static constexpr int64_t kMostInARow = GradientGuard::kMostInARow;

  /// @param max_grad_zscore  of the job's `train`; 0: no update is left out for it.
  explicit UpdateGuards(const GuardsSettings& settings, double max_grad_zscore = 0);

  /// Call it once for each update with a finite gradient. An update that `max_grad_zscore` leaves
  /// out does not enter what `gradient_spike` knows of norms.
  /// @param norm  before clipping. @return whether to take the step.
  bool Accepts(double norm);
  /// After the update: the error that ends the gang, where it was a spike and the policy says so.
  absl::Status EndUpdate(int64_t epoch, int64_t update);
  /// In place of the two above: the gradient is not finite, and no step was taken.
  /// @return OK: the update is skipped, and the job goes on.
  absl::Status NotFinite(int64_t epoch, int64_t update);

  /// Whether the job may go on after an update that was not taken.
  bool skips() const { return outliers_.enabled() || skips_non_finite(); }
  int64_t skipped() const { return outliers_.skipped() + skipped_; }
  /// What was seen since the last call: of each guard the first of an epoch.
  std::vector<Firing> TakeFirings() { return std::exchange(firings_, {}); }

  /// Adds its entries to a checkpoint's state.json; reals round-trip exactly.
  void AddTo(nlohmann::ordered_json* state) const;
  /// @param state  the whole state.json. Entries that it lacks, as those of earlier versions and of
  /// jobs with other settings, begin anew.
  /// @throws nlohmann::json::exception  an entry has another structure; nothing is changed then.
  void Restore(const nlohmann::json& state);

 private:
  bool skips_non_finite() const { return settings_.non_finite == GuardPolicy::kSkip; }
  /// Keeps it to be told. @return what the policy makes of it.
  absl::Status Act(const Firing& firing);

  GuardsSettings settings_;
  GradientGuard outliers_;              ///< Of train.max_grad_zscore.
  GradientGuard spikes_;                ///< Of guards.gradient_spike.
  double spike_norm_ = 0;               ///< Of the update under way; 0: it is none.
  int64_t in_a_row_ = 0, skipped_ = 0;  ///< Of non_finite.
  std::vector<Firing> firings_;
};

}  // namespace imageddpo
