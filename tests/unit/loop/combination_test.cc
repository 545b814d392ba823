// Rewards that the trainer puts together itself: what it trains on, its rows, its checkpoints.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "tests/testing/judged.h"
#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"
#include "trainer/algo/global_advantages.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// SmallJob() with two rewards.
v1::JobSpec TwoRewards() {
  v1::JobSpec job = SmallJob();
  job.clear_rewards();
  for (const char* type : {"l1", "l2"}) {
    v1::RewardSpec* reward = job.add_rewards();
    reward->set_type(type);
    reward->set_weight(type == std::string("l1") ? 3 : -1);
  }
  return Judged(job).spec();
}

class CombinationTest : public TrainerTest {
 protected:
  /// Two epochs whose records have the values of two rewards, large and small ones.
  static Epochs TwoEpochs(const v1::JobSpec& job) {
    Epochs epochs;
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      epochs.push_back(SampleEpoch(model(), job, epoch, epoch));
      for (TrajectoryBatch& batch : epochs.back()) {
        const at::Tensor one_B = batch.rewards_B.cos(), other_B = batch.rewards_B * 1e3;
        batch.part_names = {"l1.value", "l2.value", "other.value"};
        batch.parts_BP = at::stack({one_B, other_B, one_B * NAN}, 1);
        batch.rewards_B = 3 * one_B - other_B;
      }
    }
    return epochs;
  }

  /// The epochs with other rewards in the records, made of the two values.
  static Epochs With(Epochs epochs,
                     const std::function<at::Tensor(size_t, at::Tensor, at::Tensor)>& reward) {
    for (size_t epoch = 0; epoch < epochs.size(); ++epoch) {
      for (TrajectoryBatch& batch : epochs[epoch]) {
        batch.rewards_B =
            reward(epoch, batch.parts_BP.select(1, 0), batch.parts_BP.select(1, 1)).contiguous();
      }
    }
    return epochs;
  }
};

TEST_F(CombinationTest, WithoutItsSettingsTheRecordsRewardsAreTrainedOn) {
  const v1::JobSpec job = TwoRewards();
  const Epochs epochs = {TwoEpochs(job)[0]};
  const Outcome outcome = Train(1, job, epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const Outcome of_one_reward = Train(1, SmallJob(), epochs).front();
  EXPECT_TRUE(outcome.lora_P.equal(of_one_reward.lora_P));
  EXPECT_EQ(outcome.rows[0].reward_mean(), of_one_reward.rows[0].reward_mean());
  EXPECT_THAT(outcome.state, Not(HasSubstr("\"rewards\"")));
}

TEST_F(CombinationTest, IsTrainedOnAndReported) {
  v1::JobSpec job = TwoRewards();
  job.mutable_rewards(0)->set_warmup_epochs(2);
  const Epochs epochs = TwoEpochs(job);
  const Outcome alone = Train(1, job, epochs).front();
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  for (const Outcome& outcome : Train(3, job, epochs)) ExpectSameBits(outcome, alone);

  const Epochs by_hand = With(epochs, [](size_t epoch, const at::Tensor& one, const at::Tensor& b) {
    return one * (epoch == 0 ? 0.0 : 1.5) + b * -1;
  });
  const Outcome expected = Train(1, TwoRewards(), by_hand).front();
  EXPECT_TRUE(alone.lora_P.equal(expected.lora_P));
  for (size_t row = 0; row < alone.rows.size(); ++row) {
    EXPECT_EQ(alone.rows[row].reward_mean(), expected.rows[row].reward_mean());
    EXPECT_EQ(alone.rows[row].reward_std(), expected.rows[row].reward_std());
  }
  EXPECT_FALSE(alone.lora_P.equal(Train(1, TwoRewards(), epochs).front().lora_P));
}

TEST_F(CombinationTest, ItsStateGoesThroughACheckpoint) {
  v1::JobSpec job = TwoRewards();
  job.mutable_rewards(0)->set_normalize(true);
  job.mutable_rewards(1)->set_normalize(true);
  job.mutable_advantage()->set_mode("per_key");
  job.mutable_advantage()->set_combine("per_reward");
  const Epochs epochs = TwoEpochs(job);
  const Outcome through = Train(1, job, epochs).front();
  ASSERT_TRUE(through.status.ok()) << through.status;
  for (const Outcome& outcome : Train(3, job, epochs)) ExpectSameBits(outcome, through);
  EXPECT_THAT(through.state, HasSubstr("\"squares\""));

  const Outcome first = Train(1, job, {epochs[0]}).front();
  const auto gang = MakeThreadCommunicators(1);
  ShardExchange exchange(gang[0].get(), {0}, 0, ReduceKind::kExact, std::chrono::seconds(60));
  model().lora.Unflatten(first.lora_P);
  const Policy policy = model().MakePolicy(job);
  Trainer trainer(Judged(job), policy, &model().lora, MakeAdvantageRule(Judged(job).advantage()),
                  MakeLossRule(Judged(job)), &exchange);
  const absl::Status restored =
      trainer.Restore(first.optimizer, nlohmann::json::parse(first.state));
  ASSERT_TRUE(restored.ok()) << restored;
  std::vector<v1::EpochMetrics> rows;
  ASSERT_TRUE(TrainEpoch(trainer, 0, 1, epochs[1], absl::OkStatus, &rows).ok());
  EXPECT_TRUE(model().lora.Flatten().equal(through.lora_P));
  EXPECT_EQ(trainer.StateJson().dump(), through.state);

  nlohmann::json without = nlohmann::json::parse(first.state);
  without.erase("rewards");
  model().lora.Unflatten(first.lora_P);
  EXPECT_THAT(std::string(trainer.Restore(first.optimizer, without).message()),
              HasSubstr("state.json: rewards.l1.count"));
}

/// TwoRewards() whose second one leaves out samples, in a single pass; and an epoch in which it has
/// left out two of the ten.
struct DroppingJob {
  v1::JobSpec job = TwoRewards();
  Epochs epochs;

  explicit DroppingJob(std::vector<TrajectoryBatch> batches) : epochs{std::move(batches)} {
    job.mutable_rewards(1)->set_on_nan("drop");
    job.mutable_rewards(1)->set_max_dropped(0.2);
    job.mutable_train()->set_update("single_pass");
    job.mutable_topology()->set_colocated(1);
    job.mutable_train()->set_max_grad_norm(1e6);
    for (TrajectoryBatch& batch : epochs[0]) {
      at::Tensor dropped_B = at::zeros({batch.batch_size()}, at::kDouble);
      if (batch.micro_batch == 1 || batch.micro_batch == 4) {
        dropped_B[0] = 1.0;
        batch.rewards_B[0] = NAN;
        batch.parts_BP.select(1, 1)[0] = NAN;
      }
      batch.part_names.push_back("l2.dropped");
      batch.parts_BP = at::cat({batch.parts_BP, dropped_B.unsqueeze(1)}, 1);
    }
  }
};

TEST_F(CombinationTest, SamplesThatAreLeftOutTeachNothing) {
  const DroppingJob dropping(TwoEpochs(TwoRewards())[0]);
  const Outcome alone = Train(1, dropping.job, dropping.epochs).front();
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  for (const Outcome& outcome : Train(3, dropping.job, dropping.epochs)) {
    ExpectSameBits(outcome, alone);
  }
  std::vector<double> kept;
  for (const TrajectoryBatch& batch : dropping.epochs[0]) {
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      const auto reward = batch.rewards_B[i].item<double>();
      if (!std::isnan(reward)) kept.push_back(reward);
    }
  }
  ASSERT_EQ(kept.size(), 8U);
  const std::vector<double> advantages = GlobalAdvantages().Advantages({.rewards = kept});
  at::Tensor sum_P = at::zeros({model().lora.num_parameters()}, at::kDouble);
  const auto num_steps = static_cast<double>(dropping.epochs[0].front().timesteps_BK.size(1));
  double loss = 0;
  size_t next = 0;
  for (const TrajectoryBatch& batch : dropping.epochs[0]) {
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      if (std::isnan(batch.rewards_B[i].item<double>())) continue;
      const double advantage = std::clamp(advantages[next++], -1.0, 1.0);  // adv_clip_max
      sum_P -= GradientsOf(batch.micro_batch)[i].to(at::kDouble) * advantage / 8 / num_steps;
      loss -= advantage / 8;
    }
  }
  const at::Tensor found_P =
      alone.Moment("m", model().lora) / (1 - dropping.job.train().adam_beta1());
  EXPECT_LT(((found_P - sum_P).norm() / sum_P.norm()).item<double>(), 1e-5);
  EXPECT_NEAR(alone.rows[0].loss(), loss, 1e-6);
  EXPECT_NEAR(alone.rows[0].parts_mean().at("l2.dropped"), 0.2, 1e-12);
  EXPECT_TRUE(std::isfinite(alone.rows[0].parts_mean().at("l2.value")));
  EXPECT_TRUE(std::isfinite(alone.rows[0].reward_mean()));
  EXPECT_EQ(alone.rows[0].samples_seen(), 10);
}

TEST_F(CombinationTest, TooManySamplesLeftOutPauseTheJob) {
  DroppingJob dropping(TwoEpochs(TwoRewards())[0]);
  dropping.job.mutable_rewards(1)->set_max_dropped(0.19);
  dropping.epochs[0][4].why_dropped["l2"] = "image 'late': odd";
  dropping.epochs[0][1].why_dropped["l2"] = "image 'early': no face";
  dropping.job.mutable_train()->set_update("replay");
  for (const Outcome& outcome : Train(2, dropping.job, dropping.epochs)) {
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(PausesJobFor(outcome.status), "");
    EXPECT_THAT(std::string(outcome.status.message()),
                AllOf(HasSubstr("'l2'"), HasSubstr("2 of the 10 samples of epoch 0"),
                      HasSubstr("`max_dropped` (0.19)"), HasSubstr("image 'early': no face")));
    EXPECT_EQ(outcome.steps(), 0);
  }
}

TEST_F(CombinationTest, ARecordWithoutAValueEndsTheEpoch) {
  v1::JobSpec job = TwoRewards();
  job.mutable_rewards(1)->set_warmup_epochs(1);
  Epochs epochs = {TwoEpochs(job)[0]};
  epochs[0].back().part_names[1] = "l2.values";
  const Outcome outcome = Train(1, job, epochs).front();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("no part l2.value"));
}

}  // namespace
}  // namespace imageddpo
