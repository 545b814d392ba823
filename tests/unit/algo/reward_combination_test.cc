#include "trainer/algo/reward_combination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "tests/testing/judged.h"
#include "trainer/algo/global_advantages.h"
#include "trainer/algo/keyed_advantages.h"
#include "trainer/algo/per_reward_advantages.h"

namespace imageddpo {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;

using Values = std::vector<double>;

RewardCombination Make(const std::string& settings) {
  return RewardCombination(Judged(*ParseJobYaml(settings, "job.yaml")));
}

Values Combined(RewardCombination* combination, int64_t epoch,
                const std::vector<Values>& values_TN) {
  EpochRewards rewards{.rewards = {77}};
  combination->Combine(epoch, values_TN, &rewards);
  return rewards.rewards;
}

TEST(RewardCombination, LeavesTheRolloutsSumWhereNothingAsksForMore) {
  EXPECT_THAT(Make("rewards: [{type: l1, weight: 2, offset: 1, scale: 3, clamp: 4}, {type: l2, "
                   "held_out: true, normalize: true}, {type: ssim, weight: 0, warmup_epochs: 3}]")
                  .parts(),
              ElementsAre());
  EXPECT_TRUE(Make("rewards: [{type: l1}]").State().is_null());
}

TEST(RewardCombination, WantsTheValuesOfTrainedRewards) {
  EXPECT_THAT(Make("rewards: [{type: l1}, {type: l2, held_out: true}, {type: psnr, weight: 0}, "
                   "{type: l1, normalize: true}]")
                  .parts(),
              ElementsAre("l1.value", "l1_2.value"));
  EXPECT_THAT(Make("rewards: [{type: l1}, {type: l2}]\nadvantage: {combine: per_reward}").parts(),
              ElementsAre("l1.value", "l2.value"));
}

TEST(RewardCombination, WeightsGrowLinearly) {
  RewardCombination combination =
      Make("rewards: [{type: l1, weight: -2, warmup_epochs: 4}, {type: l2, weight: 10}]");
  const std::vector<Values> values_TN = {{1, 3}, {0.5, 0.25}};
  EXPECT_THAT(Combined(&combination, 0, values_TN), ElementsAre(5, 2.5));
  EXPECT_THAT(Combined(&combination, 1, values_TN), ElementsAre(4.5, 1));
  EXPECT_THAT(Combined(&combination, 3, values_TN), ElementsAre(3.5, -2));
  EXPECT_THAT(Combined(&combination, 4, values_TN), ElementsAre(3, -3.5));
  EXPECT_THAT(Combined(&combination, 400, values_TN), ElementsAre(3, -3.5));
}

TEST(RewardCombination, DividesByTheSpreadWithinEpochsSoFar) {
  RewardCombination combination =
      Make("rewards: [{type: l1, weight: 6, normalize: true}, {type: l2}]");
  // Squares 4 + 4 of 2 values: spread 2.
  EXPECT_THAT(Combined(&combination, 0, {{1, 5}, {100, 200}}), ElementsAre(103, 215));
  // And 0 + 64 + 64, whose mean is far away: 136 of 5 values.
  const double spread = std::sqrt(136.0 / 5);
  EXPECT_THAT(Combined(&combination, 1, {{1000, 992, 1008}, {0, 0, 0}}),
              Pointwise(DoubleNear(1e-9), Values{6000 / spread, 5952 / spread, 6048 / spread}));
}

TEST(RewardCombination, EqualValuesAreNotDivided) {
  RewardCombination combination = Make("rewards: [{type: l1, normalize: true}]");
  EXPECT_THAT(Combined(&combination, 0, {{0.1, 0.1, 0.1}}), ElementsAre(0.1, 0.1, 0.1));
}

TEST(RewardCombination, GivesTheTermsWithTheirWeights) {
  RewardCombination combination = Make(
      "rewards: [{type: l1, weight: 8, warmup_epochs: 2}, {type: l2, normalize: true}]\n"
      "advantage: {combine: per_reward}");
  EpochRewards rewards{.image_ids = {"a", "b"}};
  combination.Combine(1, {{1, 2}, {1, 5}}, &rewards);
  ASSERT_EQ(rewards.terms.size(), 2U);
  EXPECT_EQ(rewards.terms[0].name, "l1");
  EXPECT_EQ(rewards.terms[0].weight, 4);
  EXPECT_THAT(rewards.terms[0].values, ElementsAre(1, 2));
  EXPECT_EQ(rewards.terms[1].name, "l2");
  EXPECT_THAT(rewards.terms[1].values, ElementsAre(0.5, 2.5));
  EXPECT_THAT(rewards.image_ids, ElementsAre("a", "b"));
}

TEST(RewardCombination, SurvivesAResumeBitForBit) {
  const std::string job = "rewards: [{type: l1, normalize: true}, {type: l2}]";
  RewardCombination one = Make(job), two = Make(job);
  Combined(&one, 0, {{0.1, 1.0 / 3, -7}, {1, 1, 1}});
  const std::string text = one.State().dump();
  const absl::Status restored = two.Restore(nlohmann::json::parse(text));
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(two.State().dump(), text);
  const std::vector<Values> next = {{0.7, 2, 3}, {4, 5, 6}};
  EXPECT_EQ(Combined(&one, 1, next), Combined(&two, 1, next));
}

TEST(RewardCombination, RefusesBadStatesAndCalls) {
  RewardCombination combination = Make("rewards: [{type: l1, normalize: true}]");
  Combined(&combination, 0, {{1, 2}});
  const std::string before = combination.State().dump();
  for (const char* text : {"null", "[]", "{}", R"({"l1": 3})", R"({"l1": {"count": 2}})",
                           R"({"l1": {"count": -1, "squares": 1}})"}) {
    const absl::Status status = combination.Restore(nlohmann::json::parse(text));
    EXPECT_THAT(std::string(status.message()), HasSubstr("rewards.l1.")) << text;
  }
  EXPECT_EQ(combination.State().dump(), before);
  EXPECT_TRUE(Make("rewards: [{type: l1}]").Restore(nullptr).ok());
  EXPECT_THROW(Combined(&combination, 1, {}), std::invalid_argument);
  EXPECT_THROW(Combined(&combination, 1, {{1}, {2}}), std::invalid_argument);
  EXPECT_EQ(combination.State().dump(), before);
}

AdvantageSettings PerReward(AdvantageMode mode) {
  return {.mode = mode, .buffer_size = 4, .min_count = 2, .combine = Combination::kPerReward};
}

/// (s − mean)/(std + 1e-8) for four numbers.
Values Normalised(const Values& sums) { return GlobalAdvantages().Advantages({.rewards = sums}); }

TEST(PerRewardAdvantages, AddUpEachRewardsOwn) {
  const Values small = {0, 1, 0, 1}, large = {100, 100, 300, 500};
  const auto rule = MakeAdvantageRule(PerReward(AdvantageMode::kGlobal));
  const Values found =
      rule->Advantages({.rewards = {0, 0, 0, 0}, .terms = {{"a", 2, small}, {"b", -1, large}}});
  const Values a = Normalised(small), b = Normalised(large);
  Values sums;
  for (size_t i = 0; i < 4; ++i) sums.push_back(2 * a[i] - b[i]);
  EXPECT_EQ(found, Normalised(sums));
  EXPECT_TRUE(rule->State().is_null());
  EXPECT_TRUE(rule->Restore(nullptr).ok());
}

/// What makes it worth its name: sums that are equal, of rewards that are not, stay apart.
TEST(PerRewardAdvantages, KeepApartWhatASumMakesEqual) {
  const Values one = {0, 1, 0, 1}, other = {1, 0, 0, 0};
  const Values of_sum = Normalised({1, 1, 0, 1});
  EXPECT_EQ(of_sum[0], of_sum[1]);
  const Values found =
      MakeAdvantageRule(PerReward(AdvantageMode::kGlobal))
          ->Advantages({.rewards = {1, 1, 0, 1}, .terms = {{"a", 1, one}, {"b", 1, other}}});
  EXPECT_GT(std::abs(found[0] - found[1]), 0.1);
}

TEST(PerRewardAdvantages, HaveStatisticsForEachRewardAndKey) {
  const EpochRewards epoch{.rewards = {0, 0},
                           .image_ids = {"x", "x"},
                           .terms = {{"a", 1, {1, 3}}, {"b", 1, {0.5, 0.25}}}};
  const auto one = MakeAdvantageRule(PerReward(AdvantageMode::kPerKey)),
             two = MakeAdvantageRule(PerReward(AdvantageMode::kPerKey));
  one->Advantages(epoch);
  EXPECT_EQ(one->State().at("a").at("buffers").dump(), R"({"x":[1.0,3.0]})");
  EXPECT_EQ(one->State().at("b").at("buffers").dump(), R"({"x":[0.5,0.25]})");
  const absl::Status restored = two->Restore(nlohmann::json::parse(one->State().dump()));
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(one->Advantages(epoch), two->Advantages(epoch));
  EXPECT_FALSE(two->Restore(nullptr).ok());
  EXPECT_THAT(std::string(two->Restore({{"a", 3}}).message()), HasSubstr("'a'"));
}

TEST(PerRewardAdvantages, RefuseAnEpochThatDoesNotFit) {
  const auto rule = MakeAdvantageRule(PerReward(AdvantageMode::kGlobal));
  EXPECT_THROW(rule->Advantages({.rewards = {1, 2}}), std::invalid_argument);
  EXPECT_THROW(rule->Advantages({.rewards = {1, 2}, .terms = {{"a", 1, {1}}}}),
               std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
