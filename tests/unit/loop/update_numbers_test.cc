// What a row says of rewards, advantages and the size of updates.
#include "trainer/loop/update_numbers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

TEST(RewardSpread, HasQuantilesBetweenTwoRewards) {
  v1::EpochMetrics metrics;
  SetRewardSpread({4, 0, 3, 1, 2}, &metrics);
  EXPECT_EQ(metrics.reward_min(), 0);
  EXPECT_DOUBLE_EQ(metrics.reward_p10(), 0.4);
  EXPECT_EQ(metrics.reward_median(), 2);
  EXPECT_DOUBLE_EQ(metrics.reward_p90(), 3.6);
  EXPECT_EQ(metrics.reward_max(), 4);
  SetRewardSpread({7}, &metrics);
  EXPECT_EQ(metrics.reward_p10(), 7);
  EXPECT_EQ(metrics.reward_p90(), 7);
}

TEST(RewardSpread, SaysNothingOfRewardsThatAreNoNumbers) {
  v1::EpochMetrics metrics;
  SetRewardSpread({1, std::numeric_limits<double>::quiet_NaN()}, &metrics);
  SetRewardSpread({}, &metrics);
  EXPECT_FALSE(metrics.has_reward_min() || metrics.has_reward_median());
}

TEST(AdvantageSpread, IsOfTheSamplesThatAreKept) {
  v1::EpochMetrics metrics;
  SetAdvantageSpread({-3, 1, 2}, 4, &metrics);
  EXPECT_EQ(metrics.advantage_max(), 3);
  EXPECT_NEAR(metrics.advantage_std(), 2.1602469, 1e-6);
  EXPECT_EQ(metrics.left_out_fraction(), 0.25);
  SetAdvantageSpread({}, 4, &metrics);
  EXPECT_EQ(metrics.advantage_max(), 0);
  EXPECT_EQ(metrics.left_out_fraction(), 1);
}

class UpdateNormsTest : public TrainerTest {};

TEST_F(UpdateNormsTest, AreTheDistancesFromTheStartAndFromTheAverage) {
  v1::JobSpec job = SmallJob();
  job.mutable_train()->set_ema_decay(0.9);
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  const at::Tensor start_P = model().lora.Flatten();
  const Outcome outcome = Train(1, job, epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.rows.size(), 1U);
  const v1::EpochMetrics& row = outcome.rows[0];
  const double moved = (outcome.lora_P - start_P).norm().item<double>();
  EXPECT_GT(moved, 0);
  EXPECT_NEAR(row.update_norm(), moved, 1e-5 * moved);
  EXPECT_NEAR(row.ema_distance(), 0.9 * moved, 1e-4 * moved);
  EXPECT_EQ(row.proximal_ratio_mean(), 1) << "nothing has been updated yet";
  EXPECT_EQ(row.left_out_fraction(), 0);
  EXPECT_LE(row.reward_min(), row.reward_mean());
  EXPECT_GE(row.reward_max(), row.reward_mean());
  EXPECT_GT(row.advantage_std(), 0);
  EXPECT_FALSE(Train(1, SmallJob(), epochs).front().rows[0].has_ema_distance());
}

}  // namespace
}  // namespace imageddpo
