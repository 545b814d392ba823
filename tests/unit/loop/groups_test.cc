// Advantages of groups through the trainer: what it trains on and reports, over any number of
// ranks, in both updates.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/testing/judged.h"
#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"
#include "trainer/algo/group_advantages.h"

namespace imageddpo {
namespace {

constexpr int64_t kGroup = 5;  // Micro-batches have 2: the groups meet within one.

v1::JobSpec GroupJob(const std::string& zero_std, const std::string& update) {
  v1::JobSpec job = SmallJob();
  job.mutable_sample()->set_group_size(kGroup);
  job.mutable_advantage()->set_mode("group");
  job.mutable_advantage()->set_zero_std(zero_std);
  job.mutable_train()->set_update(update);
  job.mutable_train()->set_max_grad_norm(1e6);
  job.mutable_topology()->set_colocated(1);
  return job;
}

class GroupsTest : public TrainerTest {
 protected:
  /// An epoch whose second group has equal rewards.
  static Epochs OneEpoch(const v1::JobSpec& job) {
    Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
    for (TrajectoryBatch& batch : epochs[0]) {
      for (int64_t i = 0; i < batch.batch_size(); ++i) {
        if (batch.first_sample + i >= kGroup) batch.rewards_B[i] = 0.1;
      }
    }
    return epochs;
  }
};

TEST_F(GroupsTest, AreTrainedOnAndEqualOnesCanBeLeftOut) {
  const v1::JobSpec keep = GroupJob("keep", "single_pass"), drop = GroupJob("drop", "single_pass");
  const Epochs epochs = OneEpoch(keep);
  const Outcome kept = Train(1, keep, epochs).front(), dropped = Train(1, drop, epochs).front();
  for (const Outcome& outcome : Train(3, keep, epochs)) ExpectSameBits(outcome, kept);
  for (const Outcome& outcome : Train(3, drop, epochs)) ExpectSameBits(outcome, dropped);

  std::vector<double> rewards;
  for (const TrajectoryBatch& batch : epochs[0]) {
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      rewards.push_back(batch.rewards_B[i].item<double>());
    }
  }
  const std::vector<double> advantages = GroupAdvantages({}).Advantages(
      {.rewards = {rewards.begin(), rewards.begin() + kGroup}, .groups = {0, 0, 0, 0, 0}});
  const auto num_steps = static_cast<double>(epochs[0].front().timesteps_BK.size(1));
  at::Tensor sum_P = at::zeros({model().lora.num_parameters()}, at::kDouble);
  double loss = 0;
  for (int64_t sample = 0; sample < kGroup; ++sample) {
    const double advantage = std::clamp(advantages[sample], -1.0, 1.0);  // adv_clip_max
    sum_P -= GradientsOf(sample / 2)[sample % 2].to(at::kDouble) * advantage / kGroup / num_steps;
    loss -= advantage / kGroup;
  }
  const double beta = drop.train().adam_beta1();
  const auto difference = [&](const Outcome& outcome, double share) {
    const at::Tensor found_P = outcome.Moment("m", model().lora) / (1 - beta);
    return ((found_P - share * sum_P).norm() / sum_P.norm()).item<double>();
  };
  EXPECT_LT(difference(dropped, 1), 1e-5);
  EXPECT_LT(difference(kept, 0.5), 1e-5) << "the mean is over all ten";
  EXPECT_NEAR(dropped.rows[0].loss(), loss, 1e-6);
  EXPECT_NEAR(kept.rows[0].loss(), loss / 2, 1e-6);
  for (const Outcome* outcome : {&kept, &dropped}) {
    EXPECT_EQ(outcome->rows[0].zero_std_ratio(), 0.5);
    EXPECT_EQ(outcome->rows[0].reward_mean(), kept.rows[0].reward_mean()) << "of all ten";
  }
}

TEST_F(GroupsTest, AReplayTrainsOnTheSame) {
  for (const char* zero_std : {"keep", "drop"}) {
    const v1::JobSpec job = GroupJob(zero_std, "replay");
    Reset();  // To what Train() starts from: sampled and trained weights are the same.
    const Epochs epochs = OneEpoch(job);
    const Outcome alone = Train(1, job, epochs).front();
    for (const Outcome& outcome : Train(3, job, epochs)) ExpectSameBits(outcome, alone);
    EXPECT_GT(alone.rows[0].grad_norm(), 0);
    const Outcome single = Train(1, GroupJob(zero_std, "single_pass"), epochs).front();
    EXPECT_NEAR(alone.rows[0].loss(), single.rows[0].loss(), 1e-6);
  }
}

TEST_F(GroupsTest, AnEpochOfEqualRewardsTeachesNothing) {
  const v1::JobSpec job = GroupJob("drop", "replay");
  Epochs epochs = OneEpoch(job);
  for (TrajectoryBatch& batch : epochs[0]) batch.rewards_B.fill_(0.1);
  const Outcome outcome = Train(1, job, epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.rows[0].zero_std_ratio(), 1);
  EXPECT_EQ(outcome.rows[0].grad_norm(), 0);
  EXPECT_NEAR(outcome.rows[0].reward_mean(), 0.1, 1e-12);
}

TEST_F(GroupsTest, WithoutTheirModeNothingIsSaidOfThem) {
  const v1::JobSpec job = SmallJob();
  const Outcome outcome = Train(1, job, {SampleEpoch(model(), job, 0, 0)}).front();
  EXPECT_FALSE(outcome.rows[0].has_zero_std_ratio());
}

}  // namespace
}  // namespace imageddpo
