#include "trainer/algo/global_advantages.h"

#include "trainer/algo/moments.h"

namespace imageddpo {

std::vector<double> GlobalAdvantages::Advantages(const EpochRewards& epoch) {
  constexpr double kEpsilon = 1e-8;
  const Moments moments = MomentsOf(epoch.rewards);
  std::vector<double> advantages;
  advantages.reserve(epoch.rewards.size());
  for (double reward : epoch.rewards) {
    advantages.push_back((reward - moments.mean) / (moments.std + kEpsilon));
  }
  return advantages;
}

}  // namespace imageddpo
