#pragma once

#include <vector>

#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// `advantage.mode: group`. Advantages relative to the other samples of an image within the epoch,
/// the group, as in GRPO (Shao et al., arXiv:2402.03300). For the reward r of a sample whose group
/// has n rewards:
///
///   baseline = mean of the group; with `leave_one_out` of its other samples, as in RLOO (Ahmadian
///              et al., arXiv:2402.14740)
///   A        = (r - baseline)/(std + 1e-6), where `std_of` says whose std: the group's, that of
///   all
///              rewards of the epoch, or none: then A = r - baseline, as in Dr. GRPO (Liu et al.,
///              arXiv:2503.20783)
///
/// with the population's std (ddof 0). Exactly 0 where all rewards of the group are equal, a single
/// one included. Rewards that a group has lost (dropped samples) are not in its statistics. Without
/// a state.
class GroupAdvantages final : public AdvantageRule {
 public:
  explicit GroupAdvantages(const AdvantageSettings& settings) : settings_(settings) {}

  /// @throws std::invalid_argument  not a group for each reward.
  std::vector<double> Advantages(const EpochRewards& epoch) override;

 private:
  AdvantageSettings settings_;
};

/// Which samples of an epoch have something to be compared with.
struct GroupSpread {
  std::vector<bool> has_spread;  ///< By sample: not all rewards of its group are equal.
  double zero_ratio = 0;         ///< Share of the groups whose rewards are all equal; 0 of none.
};

/// @param combine  kSum: of EpochRewards::rewards. kPerReward: of each of its terms that has a
///                 weight; a group has a spread where one of them has.
/// @throws std::invalid_argument  not a group for each reward.
GroupSpread SpreadOfGroups(const EpochRewards& epoch, Combination combine);

}  // namespace imageddpo
