#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "trainer/algo/gradient_guard.h"
#include "trainer/guards/firing.h"

namespace imageddpo {

/// The guards that judge single updates: `guards.gradient_spike` and `guards.non_finite`. All
/// trainers judge the same norms and therefore decide alike. Thread-compatible.
class UpdateGuards {
 public:
  static constexpr int64_t kMostInARow = GradientGuard::kMostInARow;

  explicit UpdateGuards(const GuardsSettings& settings);

  /// Call it once for each update with a finite gradient that is not skipped for another reason.
  /// @param norm  before clipping. @return whether to take the step.
  bool Accepts(double norm);
  /// After the update: the error that ends the gang, where it was a spike and the policy says so.
  absl::Status EndUpdate(int64_t epoch, int64_t update);
  /// In place of the two above: the gradient is not finite, and no step was taken.
  /// @return OK: the update is skipped, and the job goes on.
  absl::Status NotFinite(int64_t epoch, int64_t update);

  bool skips() const { return settings_.non_finite == GuardPolicy::kSkip; }
  int64_t skipped() const { return skipped_; }
  /// What was seen since the last call: of each guard the first of an epoch.
  std::vector<Firing> TakeFirings() { return std::exchange(firings_, {}); }

  /// For a checkpoint's state.json; reals round-trip exactly.
  nlohmann::ordered_json ToJson() const;
  /// @throws nlohmann::json::exception  the JSON has another structure.
  void Restore(const nlohmann::json& state);

 private:
  /// Keeps it to be told. @return what the policy makes of it.
  absl::Status Act(const Firing& firing);

  GuardsSettings settings_;
  GradientGuard spikes_;
  double spike_norm_ = 0;  ///< Of the update under way; 0: it is none.
  int64_t in_a_row_ = 0, skipped_ = 0;
  std::vector<Firing> firings_;
};

}  // namespace imageddpo
