#include "trainer/algo/group_advantages.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "trainer/algo/moments.h"

namespace imageddpo {
namespace {

/// The values of each group, in sample order.
std::map<int64_t, std::vector<double>> ByGroup(const std::vector<double>& values,
                                               const std::vector<int64_t>& groups) {
  if (groups.size() != values.size()) {
    throw std::invalid_argument(absl::StrCat("GroupAdvantages: ", groups.size(), " groups for ",
                                             values.size(), " rewards"));
  }
  std::map<int64_t, std::vector<double>> by_group;
  for (size_t i = 0; i < values.size(); ++i) by_group[groups[i]].push_back(values[i]);
  return by_group;
}

/// Compares instead of looking at the std, which rounding keeps from 0 for values that are not
/// float32.
bool AllEqual(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(),
                     [&](double value) { return value == values.front(); });
}

}  // namespace

std::vector<double> GroupAdvantages::Advantages(const EpochRewards& epoch) {
  constexpr double kEpsilon = 1e-6;
  struct Group {
    bool has_spread = false;
    double mean = 0, factor = 0;
  };
  const double std_of_epoch = MomentsOf(epoch.rewards).std;
  std::map<int64_t, Group> groups;
  for (const auto& [id, rewards] : ByGroup(epoch.rewards, epoch.groups)) {
    Group& group = groups[id];
    group.has_spread = !AllEqual(rewards);
    if (!group.has_spread) continue;
    const Moments moments = MomentsOf(rewards);
    group.mean = moments.mean;
    // r minus the mean of the other n - 1 is n/(n - 1) times r minus the mean of all n.
    const auto n = static_cast<double>(rewards.size());
    group.factor = settings_.leave_one_out ? n / (n - 1) : 1.0;
    if (settings_.std_of == StdOf::kGroup) group.factor /= moments.std + kEpsilon;
    if (settings_.std_of == StdOf::kGlobal) group.factor /= std_of_epoch + kEpsilon;
  }
  std::vector<double> advantages;
  advantages.reserve(epoch.rewards.size());
  for (size_t i = 0; i < epoch.rewards.size(); ++i) {
    const Group& group = groups.at(epoch.groups[i]);
    advantages.push_back(group.has_spread ? (epoch.rewards[i] - group.mean) * group.factor : 0.0);
  }
  return advantages;
}

GroupSpread SpreadOfGroups(const EpochRewards& epoch, Combination combine) {
  const std::set<int64_t> all(epoch.groups.begin(), epoch.groups.end());
  std::set<int64_t> with_spread;
  const auto look_at = [&](const std::vector<double>& values) {
    for (const auto& [id, rewards] : ByGroup(values, epoch.groups)) {
      if (!AllEqual(rewards)) with_spread.insert(id);
    }
  };
  if (combine == Combination::kSum) look_at(epoch.rewards);
  for (const RewardTerm& term : epoch.terms) {
    if (combine == Combination::kPerReward && term.weight != 0) look_at(term.values);
  }
  GroupSpread spread;
  for (const int64_t id : epoch.groups) spread.has_spread.push_back(with_spread.contains(id));
  if (!all.empty()) {
    spread.zero_ratio =
        static_cast<double>(all.size() - with_spread.size()) / static_cast<double>(all.size());
  }
  return spread;
}

}  // namespace imageddpo
