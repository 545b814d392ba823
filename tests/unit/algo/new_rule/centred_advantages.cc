#include "tests/unit/algo/new_rule/centred_advantages.h"

#include "trainer/algo/moments.h"

namespace imageddpo {

std::vector<double> CentredAdvantages::Advantages(const EpochRewards& epoch) {
  std::vector<double> advantages = epoch.rewards;
  for (double& advantage : advantages) advantage -= MomentsOf(epoch.rewards).mean;
  return advantages;
}

}  // namespace imageddpo
