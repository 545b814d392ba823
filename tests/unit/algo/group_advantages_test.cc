#include "trainer/algo/group_advantages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

namespace imageddpo {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Pointwise;

using Numbers = std::vector<double>;

/// Groups of 4, 2 (one was dropped), 3 equal ones that float32 does not represent, and a single
/// one.
const EpochRewards& Epoch() {
  static const EpochRewards epoch{.rewards = {1, 2, 3, 6, -4, 8, 0.1, 0.1, 0.1, 7},
                                  .groups = {0, 0, 0, 0, 1, 1, 2, 2, 2, 5}};
  return epoch;
}

Numbers Of(const AdvantageSettings& settings) {
  return GroupAdvantages(settings).Advantages(Epoch());
}

/// The documented formula, sample by sample.
Numbers ByHand(StdOf std_of, bool leave_one_out) {
  const auto std_where = [](const auto& is_in) {
    double count = 0, mean = 0, squares = 0;
    for (size_t i = 0; i < Epoch().rewards.size(); ++i) count += is_in(i) ? 1 : 0;
    for (size_t i = 0; i < Epoch().rewards.size(); ++i) {
      mean += is_in(i) ? Epoch().rewards[i] / count : 0;
    }
    for (size_t i = 0; i < Epoch().rewards.size(); ++i) {
      squares += is_in(i) ? std::pow(Epoch().rewards[i] - mean, 2) / count : 0;
    }
    return std::sqrt(squares);
  };
  Numbers advantages;
  for (size_t i = 0; i < Epoch().rewards.size(); ++i) {
    const auto is_mate = [&](size_t j) { return Epoch().groups[j] == Epoch().groups[i]; };
    double sum = 0, count = 0;
    for (size_t j = 0; j < Epoch().rewards.size(); ++j) {
      if (!is_mate(j) || (leave_one_out && j == i)) continue;
      sum += Epoch().rewards[j];
      ++count;
    }
    if (count == 0) {
      advantages.push_back(0);
      continue;
    }
    const double std = std_of == StdOf::kNone    ? 1
                       : std_of == StdOf::kGroup ? std_where(is_mate) + 1e-6
                                                 : std_where([](size_t) { return true; }) + 1e-6;
    advantages.push_back((Epoch().rewards[i] - sum / count) / std);
  }
  return advantages;
}

TEST(GroupAdvantages, AreTheFormula) {
  EXPECT_THAT(Of({}), Pointwise(DoubleNear(5e-6), {-1.069045, -0.534522, 0.0, 1.603567, -1.0, 1.0,
                                                   0.0, 0.0, 0.0, 0.0}));
  for (const StdOf std_of : {StdOf::kGroup, StdOf::kGlobal, StdOf::kNone}) {
    for (const bool leave_one_out : {false, true}) {
      EXPECT_THAT(Of({.std_of = std_of, .leave_one_out = leave_one_out}),
                  Pointwise(DoubleNear(1e-9), ByHand(std_of, leave_one_out)))
          << static_cast<int>(std_of) << " " << leave_one_out;
    }
  }
  EXPECT_TRUE(GroupAdvantages({}).Advantages({}).empty());
}

TEST(GroupAdvantages, EqualRewardsTeachNothing) {
  // Their mean is not one of them: dividing by 1e-6 would magnify its rounding.
  const EpochRewards equal{.rewards = Numbers(37, 0.1), .groups = std::vector<int64_t>(37, 3)};
  EXPECT_THAT(GroupAdvantages({.leave_one_out = true}).Advantages(equal), Each(0.0));
}

TEST(GroupAdvantages, RefuseAnEpochWithoutGroups) {
  EXPECT_THROW(GroupAdvantages({}).Advantages({.rewards = {1, 2}, .groups = {0}}),
               std::invalid_argument);
  EXPECT_THROW(SpreadOfGroups({.rewards = {1, 2}}, Combination::kSum), std::invalid_argument);
}

TEST(GroupSpread, IsWhatAGroupsSamplesHaveToBeComparedWith) {
  const GroupSpread spread = SpreadOfGroups(Epoch(), Combination::kSum);
  EXPECT_THAT(spread.has_spread,
              ElementsAre(true, true, true, true, true, true, false, false, false, false));
  EXPECT_EQ(spread.zero_ratio, 0.5);
  EXPECT_EQ(SpreadOfGroups({}, Combination::kSum).zero_ratio, 0);
}

/// One reward of the three has a spread in the first group, none has one in the second.
EpochRewards OfThreeRewards() {
  return {.rewards = {3, 3, 3, 3},
          .groups = {0, 0, 1, 1},
          .terms = {{"a", 1, {1, 2, 5, 5}}, {"b", -1, {0, 0, 4, 4}}, {"c", 0, {1, 2, 3, 4}}}};
}

TEST(GroupSpread, OfSeveralRewardsIsThatOfOneOfThem) {
  EXPECT_THAT(SpreadOfGroups(OfThreeRewards(), Combination::kPerReward).has_spread,
              ElementsAre(true, true, false, false));
  EXPECT_THAT(SpreadOfGroups(OfThreeRewards(), Combination::kSum).has_spread, Each(false));
}

TEST(GroupAdvantages, OfEachRewardAreAddedUp) {
  const auto rule =
      MakeAdvantageRule({.mode = AdvantageMode::kGroup, .combine = Combination::kPerReward});
  EXPECT_THAT(rule->Advantages(OfThreeRewards()),
              ElementsAre(DoubleNear(-std::sqrt(2), 1e-5), DoubleNear(std::sqrt(2), 1e-5), 0, 0));
  EXPECT_TRUE(rule->State().is_null());
}

}  // namespace
}  // namespace imageddpo
