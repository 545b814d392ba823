#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/config/resolved_job.h"
#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// The rewards that an epoch is trained on, where the weighted sum that the rollout computed is not
/// enough: rewards are normalised or warm up, or each has advantages of its own. For the T trained
/// rewards of a job (neither held out nor of weight 0), in their order, with the values v of N
/// samples:
///
///   spread  = sqrt( Σ over the epochs so far of Σ (v − the epoch's mean)² / number of values so
///             far ), the epoch under way included; 1 where it is below 1e-8, and without
///             `normalize`
///   weight  = `weight` · min(1, epoch / `warmup_epochs`); the epochs count from 0
///   reward  = Σ over the rewards of weight · v / spread
///
/// The spread is measured within epochs, so it is unaffected by a mean that moves while the policy
/// learns. All trainer ranks call Combine() with the same epochs in the same order, so the state
/// is the same on each. Thread-compatible.
class RewardCombination {
 public:
  explicit RewardCombination(const ResolvedJob& job);

  /// The parts of the records that Combine() wants. Empty: none, the rollout's sum is what is
  /// trained on.
  const std::vector<std::string>& parts() const { return parts_; }

  /// Called once for each epoch, where parts() is not empty.
  /// @param values_TN  finite, by parts() and sample.
  /// @param rewards    gets `rewards` and `terms`; the rest stays.
  /// @throws std::invalid_argument  not T rewards, or not as many values as samples.
  void Combine(int64_t epoch, std::vector<std::vector<double>> values_TN, EpochRewards* rewards);

  /// What outlives an epoch, as `rewards` in a checkpoint's state.json: for each normalised reward
  /// `count` and `squares`, by its name. Null: nothing does.
  nlohmann::json State() const;
  /// Restores what State() returned, null included.
  /// @return INVALID_ARGUMENT where it does not fit; then nothing has changed.
  absl::Status Restore(const nlohmann::json& state);

 private:
  struct Term {
    RewardConfig config;
    double count = 0;    ///< Values so far.
    double squares = 0;  ///< Their squared distances from their epochs' means.
  };

  std::vector<Term> terms_;
  std::vector<std::string> parts_;
};

}  // namespace imageddpo
