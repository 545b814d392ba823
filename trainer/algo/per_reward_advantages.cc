#include "trainer/algo/per_reward_advantages.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/algo/group_advantages.h"
#include "trainer/algo/moments.h"

namespace imageddpo {

PerRewardAdvantages::PerRewardAdvantages(const AdvantageSettings& settings) : settings_(settings) {
  settings_.combine = Combination::kSum;
}

std::unique_ptr<AdvantageRule> PerRewardAdvantages::MakeRule() const {
  return MakeAdvantageRule(settings_);
}

std::vector<double> PerRewardAdvantages::Advantages(const EpochRewards& epoch) {
  constexpr double kEpsilon = 1e-8;
  if (epoch.terms.empty()) {
    throw std::invalid_argument("PerRewardAdvantages: the epoch does not say its rewards' values");
  }
  std::vector<double> sums(epoch.rewards.size(), 0.0);
  for (const RewardTerm& term : epoch.terms) {
    std::unique_ptr<AdvantageRule>& rule = rules_[term.name];
    if (rule == nullptr) rule = MakeRule();
    const std::vector<double> advantages = rule->Advantages({.rewards = term.values,
                                                             .image_ids = epoch.image_ids,
                                                             .prompts = epoch.prompts,
                                                             .groups = epoch.groups});
    if (advantages.size() != sums.size()) {
      throw std::invalid_argument(absl::StrCat("PerRewardAdvantages: ", advantages.size(),
                                               " values of '", term.name, "' for ", sums.size(),
                                               " rewards"));
    }
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += term.weight * advantages[i];
  }
  const Moments moments = MomentsOf(sums);
  for (double& sum : sums) sum = (sum - moments.mean) / (moments.std + kEpsilon);
  if (settings_.mode == AdvantageMode::kGroup) {
    // Their sums are 0, as is the mean but for its rounding.
    const GroupSpread spread = SpreadOfGroups(epoch, Combination::kPerReward);
    for (size_t i = 0; i < sums.size(); ++i) {
      if (!spread.has_spread[i]) sums[i] = 0;
    }
  }
  return sums;
}

nlohmann::json PerRewardAdvantages::State() const {
  nlohmann::json state;
  for (const auto& [name, rule] : rules_) {
    nlohmann::json of_rule = rule->State();
    if (!of_rule.is_null()) state[name] = std::move(of_rule);
  }
  return state;
}

absl::Status PerRewardAdvantages::Restore(const nlohmann::json& state) {
  if (MakeRule()->State().is_null()) return absl::OkStatus();
  if (!state.is_object()) {
    return absl::InvalidArgumentError("statistics: not an object with each reward's");
  }
  std::map<std::string, std::unique_ptr<AdvantageRule>> rules;
  for (const auto& [name, of_rule] : state.items()) {
    rules[name] = MakeRule();
    IMAGEDDPO_RETURN_IF_ERROR(
        Annotate(rules[name]->Restore(of_rule), absl::StrCat("statistics of '", name, "'")));
  }
  rules_ = std::move(rules);
  return absl::OkStatus();
}

}  // namespace imageddpo
