#include "trainer/algo/advantage_rule.h"

#include "trainer/algo/global_advantages.h"
#include "trainer/algo/group_advantages.h"
#include "trainer/algo/keyed_advantages.h"
#include "trainer/algo/per_reward_advantages.h"

namespace imageddpo {

std::unique_ptr<AdvantageRule> MakeAdvantageRule(const AdvantageSettings& settings) {
  if (settings.combine == Combination::kPerReward) {
    return std::make_unique<PerRewardAdvantages>(settings);
  }
  switch (settings.mode) {
    case AdvantageMode::kGlobal:
      break;
    case AdvantageMode::kPerKey:
      return std::make_unique<KeyedAdvantages>(settings);
    case AdvantageMode::kGroup:
      return std::make_unique<GroupAdvantages>(settings);
  }
  return std::make_unique<GlobalAdvantages>();
}

}  // namespace imageddpo
