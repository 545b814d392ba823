#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/algo/global_advantages.h"
#include "trainer/algo/keyed_advantages.h"

namespace imageddpo {
namespace {

using Rewards = std::vector<double>;

void ExpectNear(const Rewards& found, const Rewards& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 5e-6) << i;
}

KeyedAdvantages ByImage(int64_t buffer_size, int64_t min_count) {
  return KeyedAdvantages({.buffer_size = buffer_size, .min_count = min_count});
}

TEST(GlobalAdvantages, HaveZeroMeanAndUnitDeviation) {
  GlobalAdvantages rule;
  ExpectNear(rule.Advantages({.rewards = {1, 2, 3, 6}}), {-1.069045, -0.534522, 0, 1.603567});
  EXPECT_TRUE(rule.Advantages({}).empty());
}

TEST(GlobalAdvantages, EqualRewardsTeachNothing) {
  // Values that float32 does not represent exactly: dividing by 1e-8 would magnify any rounding of
  // the mean.
  const Rewards rewards(37, static_cast<double>(0.1F));
  for (double advantage : GlobalAdvantages().Advantages({.rewards = rewards})) {
    EXPECT_EQ(advantage, 0.0);
  }
}

TEST(KeyedAdvantages, UsesTheEpochUntilAKeyHasEnough) {
  KeyedAdvantages rule = ByImage(4, 3);
  // Two rewards each: below the minimum, so the epoch's mean 4 and variance 14.
  const double std = std::sqrt(14.0) + 1e-6;
  ExpectNear(rule.Advantages({.rewards = {0, 2, 4, 10}, .image_ids = {"a", "b", "a", "b"}}),
             {-4 / std, -2 / std, 0, 6 / std});
  // a now has 0, 4, 8: mean 4. b still has two and takes the epoch's 8 and 0.
  ExpectNear(rule.Advantages({.rewards = {8}, .image_ids = {"a"}}),
             {4 / (std::sqrt(32.0 / 3) + 1e-6)});
  EXPECT_EQ(rule.State().at("buffers").size(), 2U);
}

TEST(KeyedAdvantages, BuffersKeepTheNewestAndAreExtendedFirst) {
  KeyedAdvantages rule = ByImage(2, 2);
  // Three rewards pass through a buffer of two: 1 is gone, yet judged against {3, 5}.
  ExpectNear(rule.Advantages({.rewards = {1, 3, 5}, .image_ids = {"a", "a", "a"}}), {-3, -1, 1});
}

TEST(KeyedAdvantages, GroupsByImagePromptOrBoth) {
  const EpochRewards epoch{
      .rewards = {1, 2, 3}, .image_ids = {"a", "a", "b"}, .prompts = {"x", "y", "y"}};
  const auto buffers = [&epoch](StatKey stat_key) {
    KeyedAdvantages rule({.stat_key = stat_key});
    rule.Advantages(epoch);
    return rule.State().at("buffers").dump();
  };
  EXPECT_EQ(buffers(StatKey::kImage), R"({"a":[1.0,2.0],"b":[3.0]})");
  EXPECT_EQ(buffers(StatKey::kPrompt), R"({"x":[1.0],"y":[2.0,3.0]})");
  EXPECT_EQ(buffers(StatKey::kPair), R"({"a\nx":[1.0],"a\ny":[2.0],"b\ny":[3.0]})");
}

TEST(KeyedAdvantages, NoTwoPairsHaveOneKey) {
  KeyedAdvantages rule({.stat_key = StatKey::kPair});
  rule.Advantages({.rewards = {1, 2, 3, 4},
                   .image_ids = {"a", "a\nb", "a\nb", "a\nbc"},
                   .prompts = {"b\nc", "c", "cd", "d"}});
  EXPECT_EQ(rule.State().at("buffers").size(), 4U);
}

TEST(KeyedAdvantages, SurvivesAResumeBitForBit) {
  KeyedAdvantages one = ByImage(3, 2), two = ByImage(16, 16);
  EpochRewards epoch{.rewards = {0.1, 1.0 / 3, 1e-300, -7},
                     .image_ids = {"cat", "dog \"1\"", "cat", "\xc3\xa9"}};
  one.Advantages(epoch);
  const std::string text = one.State().dump();
  const absl::Status restored = two.Restore(nlohmann::json::parse(text));
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(two.State().dump(), text);
  epoch.rewards = {0.7, 2, 3, 4};
  EXPECT_EQ(one.Advantages(epoch), two.Advantages(epoch));
}

TEST(KeyedAdvantages, RefusesBadStatesAndCalls) {
  KeyedAdvantages rule = ByImage(4, 4);
  rule.Advantages({.rewards = {1}, .image_ids = {"a"}});
  const std::string before = rule.State().dump();
  for (const char* text :
       {"null", "[]", "{}", R"({"buffer_size": 0, "min_count": 1, "buffers": {}})",
        R"({"buffer_size": 2, "min_count": 1, "buffers": []})",
        R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": []}})",
        R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": [1, 2, 3]}})",
        R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": ["x"]}})"}) {
    EXPECT_FALSE(rule.Restore(nlohmann::json::parse(text)).ok()) << text;
  }
  EXPECT_EQ(rule.State().dump(), before);
  EXPECT_THROW(ByImage(0, 1), std::invalid_argument);
  EXPECT_THROW(rule.Advantages({.rewards = {1}}), std::invalid_argument);
  EXPECT_THROW(rule.Advantages({.image_ids = {"a"}}), std::invalid_argument);
  EXPECT_EQ(rule.State().dump(), before);
}

TEST(MakeAdvantageRule, TakesTheModesOfAJob) {
  const EpochRewards epoch{.rewards = {1, 2}, .image_ids = {"a", "b"}};
  const auto global = MakeAdvantageRule(AdvantageSettings{}),
             keyed = MakeAdvantageRule(AdvantageSettings{.mode = AdvantageMode::kPerKey});
  EXPECT_EQ(global->Advantages(epoch), GlobalAdvantages().Advantages(epoch));
  EXPECT_TRUE(global->State().is_null());
  keyed->Advantages(epoch);
  EXPECT_EQ(keyed->State().at("buffers").size(), 2U);
}

/// What checkpoints have held from the first version on, whatever the job's mode.
TEST(MakeAdvantageRule, RulesTakeTheStatesOfOlderCheckpoints) {
  const auto empty =
      nlohmann::json::parse(R"({"buffer_size": 16, "min_count": 16, "buffers": {}})");
  EXPECT_TRUE(MakeAdvantageRule(AdvantageSettings{})->Restore(empty).ok());
  const auto keyed = MakeAdvantageRule(AdvantageSettings{.mode = AdvantageMode::kPerKey});
  const char* text = R"({"buffer_size": 3, "min_count": 2, "buffers": {"a": [4.0, 8.0]}})";
  ASSERT_TRUE(keyed->Restore(nlohmann::json::parse(text)).ok());
  ExpectNear(keyed->Advantages({.rewards = {0}, .image_ids = {"a"}}),
             {-4 / (std::sqrt(32.0 / 3) + 1e-6)});
}

}  // namespace
}  // namespace imageddpo
