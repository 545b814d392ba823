#pragma once

#include <vector>

#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// `advantage.mode: global`. Advantages over all rewards of an epoch: (r - mean)/(std + 1e-8), with
/// the population's std (ddof 0). Equal rewards give exactly 0. Has no state.
class GlobalAdvantages final : public AdvantageRule {
 public:
  std::vector<double> Advantages(const EpochRewards& epoch) override;
};

}  // namespace imageddpo
