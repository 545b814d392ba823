#pragma once

#include <vector>

#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

/// Rewards minus their mean over the epoch. A rule that exists in this test alone.
class CentredAdvantages final : public AdvantageRule {
 public:
  std::vector<double> Advantages(const EpochRewards& epoch) override;
};

}  // namespace imageddpo
