#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <string>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/trajectory/record/trajectory.h"
#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// What the records of an epoch say of its rewards.
struct EpochScores {
  /// By sample: false where it takes no part in advantages and loss: a reward without a value
  /// (`on_nan` or `on_error: drop`) or equal rewards of its group (`advantage.zero_std: drop` or
  /// `resample`) have left it out.
  std::vector<bool> is_kept;
  EpochRewards rewards;  ///< Of the samples that are kept; ScoresOf() makes no `terms`.
  std::vector<std::vector<double>> values_TN;  ///< By part asked for (T) and kept sample (N).

  /// Expands values of the kept samples to all samples, with 0 for the dropped ones.
  std::vector<double> ForAll(const std::vector<double>& of_kept) const;
  /// Leaves samples out, from all of the above.
  /// @param stays  for each sample that is kept so far.
  void Keep(const std::vector<bool>& stays);
};

/// @param batches  all micro-batches of the epoch, in order.
/// @param parts    RewardCombination::parts().
/// @return OUT_OF_RANGE, marked with PausesJob, where a reward left out more samples than its
///         `max_dropped`, with the first one's reason, or all are left out; INTERNAL where a record
///         lacks a part.
absl::StatusOr<EpochScores> ScoresOf(const ResolvedJob& job, int64_t epoch,
                                     const std::vector<TrajectoryBatch>& batches,
                                     const std::vector<std::string>& parts);

/// Mean of each part over the samples that have a number there; NaN where none has.
std::map<std::string, double> MeansOfParts(const std::vector<TrajectoryBatch>& batches);

}  // namespace imageddpo
