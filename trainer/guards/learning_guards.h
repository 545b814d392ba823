#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/learning/learning.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/metrics.pb.h"
#include "trainer/guards/firing.h"

namespace imageddpo {

/// The guards that judge whole epochs, by the rules of docs/guards.md. What they say is a function
/// of the epochs and evaluations that they were told of. A guard speaks when its condition begins
/// to hold, and again only after it has not held for an epoch. Thread-compatible.
class LearningGuards {
 public:
  /// Trends are judged from so many epochs on.
  static constexpr size_t kFewestEpochs = 16;
  /// Epochs with equal rewards that follow each other until zero_spread speaks.
  static constexpr int64_t kEpochsWithoutSpread = 3;

  explicit LearningGuards(const ResolvedJob& job);

  /// An evaluation, before the epoch that is sampled with its version. It counts from that epoch
  /// on: with stale samples it may come earlier, by how far sampling is ahead. One that is told
  /// again, as after a resume, counts once.
  void OnEvaluation(const v1::EvalReport& report);
  /// The next epoch. @return what has begun with it; guards that are off say nothing.
  std::vector<Firing> Judge(const v1::EpochMetrics& epoch);

  /// For a checkpoint's state.json; reals round-trip exactly.
  nlohmann::ordered_json ToJson() const;
  /// @return INVALID_ARGUMENT: the JSON has another structure.
  absl::Status Restore(const nlohmann::json& state);

 private:
  void TakeEvaluations(int64_t epoch);
  void Remember(const v1::EpochMetrics& epoch);
  std::optional<Firing> Collapse() const;
  std::optional<Firing> ApproxKl(const v1::EpochMetrics& epoch) const;
  std::optional<Firing> KlToBase(const v1::EpochMetrics& epoch) const;
  std::optional<Firing> ZeroSpread(const v1::EpochMetrics& epoch);
  std::optional<Firing> ImageStatistics() const;
  std::optional<Firing> HeldOut() const;
  /// The state before the last window of epochs, in which a trend has shown.
  int64_t EpochsBeforeLastWindow() const;

  GuardsSettings settings_;
  std::string kl_part_;                   ///< Of a reward of type kl_to_base; may be empty.
  std::vector<std::string> image_parts_;  ///< Held-out measures of the images.
  std::vector<std::string> value_parts_;  ///< The value of each reward.
  /// What the rules need: of an epoch its number, the reward and the values of the rewards.
  JobHistory history_;
  std::deque<v1::EvalEvent> early_;  ///< Evaluations that do not count yet; no part of the state.
  int64_t without_spread_ = 0;       ///< Epochs in a row.
  std::set<std::string> active_;     ///< Names of guards whose condition holds.
};

}  // namespace imageddpo
