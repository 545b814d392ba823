#include "trainer/algo/advantages.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace imageddpo {
namespace {

using Rewards = std::vector<double>;
using Keys = std::vector<std::string>;

void ExpectNear(const Rewards& found, const Rewards& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 5e-6) << i;
}

TEST(GlobalAdvantages, HaveZeroMeanAndUnitDeviation) {
  ExpectNear(GlobalAdvantages({1, 2, 3, 6}), {-1.069045, -0.534522, 0, 1.603567});
  EXPECT_TRUE(GlobalAdvantages({}).empty());
}

TEST(GlobalAdvantages, EqualRewardsTeachNothing) {
  // Values that float32 does not represent exactly: dividing by 1e-8 would magnify any rounding of
  // the mean.
  const Rewards rewards(37, static_cast<double>(0.1F));
  for (double advantage : GlobalAdvantages(rewards)) EXPECT_EQ(advantage, 0.0);
}

TEST(KeyedStatistics, UsesTheEpochUntilAKeyHasEnough) {
  KeyedStatistics statistics({.buffer_size = 4, .min_count = 3});
  // Two rewards each: below the minimum, so the epoch's mean 4 and variance 14.
  const double std = std::sqrt(14.0) + 1e-6;
  ExpectNear(statistics.Update({"a", "b", "a", "b"}, {0, 2, 4, 10}),
             {-4 / std, -2 / std, 0, 6 / std});
  // a now has 0, 4, 8: mean 4. b still has two and takes the epoch's 8 and 0.
  ExpectNear(statistics.Update({"a"}, {8}), {4 / (std::sqrt(32.0 / 3) + 1e-6)});
  EXPECT_EQ(statistics.num_keys(), 2);
}

TEST(KeyedStatistics, BuffersKeepTheNewestAndAreExtendedFirst) {
  KeyedStatistics statistics({.buffer_size = 2, .min_count = 2});
  // Three rewards pass through a buffer of two: 1 is gone, yet judged against {3, 5}.
  ExpectNear(statistics.Update({"a", "a", "a"}, {1, 3, 5}), {-3, -1, 1});
}

TEST(KeyedStatistics, SurvivesAResumeBitForBit) {
  KeyedStatistics one({.buffer_size = 3, .min_count = 2});
  const Keys keys = {"cat", "dog \"1\"", "cat", "\xc3\xa9"};
  one.Update(keys, {0.1, 1.0 / 3, 1e-300, -7});
  const std::string text = one.ToJson().dump();
  absl::StatusOr<KeyedStatistics> two = KeyedStatistics::FromJson(nlohmann::json::parse(text));
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->ToJson().dump(), text);
  EXPECT_EQ(one.Update(keys, {0.7, 2, 3, 4}), two->Update(keys, {0.7, 2, 3, 4}));
}

TEST(KeyedStatistics, RefusesBadStatesAndCalls) {
  for (const char* text : {"[]", "{}", R"({"buffer_size": 0, "min_count": 1, "buffers": {}})",
                           R"({"buffer_size": 2, "min_count": 1, "buffers": []})",
                           R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": []}})",
                           R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": [1, 2, 3]}})",
                           R"({"buffer_size": 2, "min_count": 1, "buffers": {"a": ["x"]}})"}) {
    EXPECT_FALSE(KeyedStatistics::FromJson(nlohmann::json::parse(text)).ok()) << text;
  }
  EXPECT_THROW(KeyedStatistics({0, 1}), std::invalid_argument);
  KeyedStatistics statistics({4, 4});
  EXPECT_THROW(statistics.Update({"a"}, {}), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
