#include "common/base/suggest.h"

#include "gtest/gtest.h"

namespace imageddpo {
namespace {

TEST(EditDistance, CountsSingleChangesAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0U);
  EXPECT_EQ(EditDistance("", "seed"), 4U);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3U);
  EXPECT_EQ(EditDistance("seed", "sede"), 1U);
  EXPECT_EQ(EditDistance("learning_rate", "learning_rat"), 1U);
}

TEST(ClosestMatch, FindsTheWordThatWasMeant) {
  const std::vector<std::string> keys = {"num_steps", "noise_strength", "guidance_scale", "eta"};
  EXPECT_EQ(ClosestMatch("noise_strenght", keys), "noise_strength");
  EXPECT_EQ(ClosestMatch("num-step", keys), "num_steps");
  EXPECT_EQ(ClosestMatch("Guidance_Scale", keys), "guidance_scale");
  EXPECT_EQ(ClosestMatch("et", keys), "eta");
}

TEST(ClosestMatch, SaysNothingWhenNothingIsClose) {
  const std::vector<std::string> keys = {"num_steps", "eta"};
  EXPECT_EQ(ClosestMatch("resolution", keys), std::nullopt);
  EXPECT_EQ(ClosestMatch("", keys), std::nullopt);
  EXPECT_EQ(ClosestMatch("x", {}), std::nullopt);
}

TEST(ClosestMatch, TakesTheFirstOfEquallyCloseWords) {
  EXPECT_EQ(ClosestMatch("cat", {"car", "bat"}), "car");
}

}  // namespace
}  // namespace imageddpo
