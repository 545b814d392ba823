#include "trainer/algo/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace imageddpo {
namespace {

TEST(LearningRate, IsTheSettingItselfUnlessAskedFor) {
  for (const int64_t update : {0, 1, 99, 100'000}) {
    EXPECT_EQ(LearningRateOf(update, {.peak = 3e-4, .total_updates = 100}), 3e-4);
  }
}

TEST(LearningRate, RisesLinearlyAndStays) {
  const LearningRateSettings settings{.peak = 0.5, .warmup_updates = 4, .total_updates = 10};
  const double expected[] = {0.125, 0.25, 0.375, 0.5, 0.5, 0.5};
  for (int64_t update = 0; update < 6; ++update) {
    EXPECT_EQ(LearningRateOf(update, settings), expected[update]) << update;
  }
}

TEST(LearningRate, FallsAlongHalfACosine) {
  const LearningRateSettings settings{.kind = LearningRateKind::kCosine,
                                      .peak = 2,
                                      .warmup_updates = 2,
                                      .total_updates = 14,
                                      .min_ratio = 0.25};
  EXPECT_EQ(LearningRateOf(0, settings), 1);
  EXPECT_EQ(LearningRateOf(1, settings), 2);
  EXPECT_EQ(LearningRateOf(2, settings), 2) << "the cosine's top";
  EXPECT_NEAR(LearningRateOf(8, settings), 2 * (1 + 0.25) / 2, 1e-12) << "its middle";
  for (int64_t update = 3; update < 14; ++update) {
    const double angle = std::acos(-1.0) * static_cast<double>(update - 2) / 12;
    EXPECT_NEAR(LearningRateOf(update, settings), 0.5 + 1.5 * 0.5 * (1 + std::cos(angle)), 1e-12);
    EXPECT_LT(LearningRateOf(update, settings), LearningRateOf(update - 1, settings));
  }
  EXPECT_GT(LearningRateOf(13, settings), 0.5) << "the last one still learns";
  EXPECT_EQ(LearningRateOf(14, settings), 0.5);
  EXPECT_EQ(LearningRateOf(1'000, settings), 0.5);
}

TEST(LearningRate, AWarmUpMayBeLongerThanTheJob) {
  const LearningRateSettings settings{
      .kind = LearningRateKind::kCosine, .peak = 1, .warmup_updates = 20, .total_updates = 10};
  EXPECT_EQ(LearningRateOf(9, settings), 0.5);
}

}  // namespace
}  // namespace imageddpo
