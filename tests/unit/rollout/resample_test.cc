// advantage.zero_std: resample. Groups whose rewards are all equal are drawn again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rollout/reward/weighted_rewards.h"
#include "tests/testing/async_reward.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

/// A micro-batch of two groups of three samples.
class ResampleTest : public RolloutFixture {
 protected:
  ResampleTest() {
    job_.mutable_sample()->set_batch_size(6);
    job_.mutable_sample()->set_num_batches_per_epoch(1);
    job_.mutable_sample()->set_group_size(3);
    job_.mutable_device()->set_device_batch_size(6);
    job_.mutable_train()->set_gradient_shards(1);
    job_.mutable_advantage()->set_mode("group");
  }

  /// The epoch's micro-batch with a reward of these values: one list for each call, the last one
  /// for all calls after it.
  TrajectoryBatch Sample(int64_t max_resamples, std::vector<std::vector<double>> values) {
    job_.mutable_advantage()->set_zero_std("resample");
    job_.mutable_advantage()->set_max_resamples(max_resamples);
    calls_ = 0;
    RewardConfig config;
    config.name = "jpeg";
    std::vector<WeightedRewards::Term> terms;
    const auto score =
        [this, values = std::move(values)](const RewardBatch&) -> absl::StatusOr<RewardOutput> {
      RewardOutput output;
      const size_t call = std::min(calls_++, values.size() - 1);
      for (const double value : values[call]) output.values_B.emplace_back(value);
      return output;
    };
    terms.push_back({std::make_unique<AsyncReward>("jpeg", score), config});
    Pipeline pipeline = LoadModel();
    const auto rollout = Make(&pipeline, std::make_unique<WeightedRewards>(std::move(terms)));
    auto batch = Scored(rollout->Sample(0, 0, 0, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }

  TrajectoryBatch Plain() {
    job_.mutable_advantage()->set_zero_std("drop");
    Pipeline pipeline = LoadModel();
    auto batch = Scored(Make(&pipeline)->Sample(0, 0, 0, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }

  static std::vector<double> Resampled(const TrajectoryBatch& batch) {
    EXPECT_EQ(batch.part_names.back(), "group.resampled");
    std::vector<double> resampled;
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      resampled.push_back(batch.parts_BP[i][-1].item<double>());
    }
    return resampled;
  }

  size_t calls_ = 0;
};

using Values = std::vector<double>;

TEST_F(ResampleTest, GroupsWithASpreadStay) {
  const TrajectoryBatch plain = Plain(), batch = Sample(2, {{1, 2, 1, 0, 0, 5}});
  EXPECT_EQ(calls_, 1U);
  EXPECT_EQ(Resampled(batch), Values(6, 0));
  EXPECT_TRUE(batch.latents.equal(plain.latents));
  EXPECT_TRUE(batch.log_probs_BK.equal(plain.log_probs_BK));
}

TEST_F(ResampleTest, AnEqualGroupHasOtherNoiseAndItsNeighbourTheSame) {
  const TrajectoryBatch plain = Plain(),
                        batch = Sample(2, {{7, 7, 7, 1, 2, 3}, {4, 5, 6, 8, 9, 9}});
  EXPECT_EQ(calls_, 2U);
  EXPECT_EQ(Resampled(batch), (Values{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(batch.image_ids, plain.image_ids);
  EXPECT_TRUE(batch.rewards_B.equal(at::tensor({4, 5, 6, 8, 9, 9}, at::kDouble)))
      << "those of what is recorded";
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(batch.latents[i][0].equal(plain.latents[i][0])) << i;
    EXPECT_TRUE(batch.latents[3 + i][0].equal(plain.latents[3 + i][0])) << i;
  }
}

TEST_F(ResampleTest, TheTriesEnd) {
  const TrajectoryBatch once = Sample(1, {{1, 1, 1, 2, 2, 2}});
  EXPECT_EQ(calls_, 2U);
  EXPECT_EQ(Resampled(once), Values(6, 1));
  const TrajectoryBatch three = Sample(3, {{1, 1, 1, 2, 2, 2}});
  EXPECT_EQ(calls_, 4U);
  EXPECT_EQ(Resampled(three), Values(6, 3));
  EXPECT_FALSE(once.latents.equal(three.latents));
  EXPECT_TRUE(Sample(3, {{1, 1, 1, 2, 2, 2}}).latents.equal(three.latents)) << "keyed";
}

}  // namespace
}  // namespace imageddpo
