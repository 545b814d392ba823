#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

namespace imageddpo {

/// Tells which updates are spikes: those whose gradient's norm is far above the norms so far.
///
///   spike   count >= 16 and norm > mean + max_zscore · std
///
/// over the norms of all accepted updates, with the population's std (kept by Welford's recurrence,
/// Technometrics 4, 1962). A spike does not enter them. Norms that stay high are none: after 16
/// spikes in a row the next norm is accepted, and the statistics start anew from it. All trainers
/// judge the same norms and therefore have the same state. Thread-compatible.
class GradientGuard {
 public:
  static constexpr int64_t kFirstUpdates = 16;  ///< Accepted whatever they are.
  static constexpr int64_t kMostInARow = 16;

  /// @param max_zscore  0: every update is accepted, and nothing is kept.
  explicit GradientGuard(double max_zscore) : max_zscore_(max_zscore) {}

  /// Call it once for each update. @param norm  before clipping; finite.
  /// @return whether to take the step; false: it is a spike.
  bool Judge(double norm);

  bool enabled() const { return max_zscore_ > 0; }
  int64_t skipped() const { return skipped_; }

  /// For a checkpoint's state.json; reals round-trip exactly.
  nlohmann::ordered_json ToJson() const;
  /// @throws nlohmann::json::exception  the JSON has another structure.
  void Restore(const nlohmann::json& state);

 private:
  double max_zscore_;
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;  ///< Squared distances from the mean, added up.
  int64_t in_a_row_ = 0, skipped_ = 0;
};

}  // namespace imageddpo
