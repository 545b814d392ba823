// The guards on learning through a trainer and through the leader of a gang.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

using TrainerGuardsTest = TrainerTest;

TEST_F(TrainerGuardsTest, AnUpdateThatIsNotFiniteIsSkippedOnAllRanks) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->set_non_finite("skip");
  Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  at::Tensor& latents = epochs[0][1].latents;
  latents = latents.clone();
  latents.select(1, 0).fill_(std::numeric_limits<float>::quiet_NaN());
  const at::Tensor before_P = model().lora.Flatten();
  for (const Outcome& outcome : Train(2, job, epochs)) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.rows.size(), 1U);
    EXPECT_TRUE(outcome.rows[0].skipped());
    EXPECT_EQ(outcome.rows[0].skipped_updates(), 1);
    EXPECT_EQ(outcome.rows[0].grad_norm(), 0);
    EXPECT_TRUE(outcome.lora_P.equal(before_P));
  }
}

/// Trains three epochs whose rewards are all equal; the status after each.
std::vector<absl::Status> TrainWithEqualRewards(SmallGang* gang) {
  std::vector<absl::Status> statuses;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<TrajectoryBatch> batches = gang->Sample(epoch, epoch);
    for (TrajectoryBatch& batch : batches) batch.rewards_B = at::ones_like(batch.rewards_B);
    gang->rollout.Send(batches);
    const absl::Status trained = gang->leader.rank->TrainEpoch(epoch);
    EXPECT_TRUE(trained.ok()) << trained;
    statuses.push_back(gang->leader.rank->SendCheckpoint());
    gang->rollout.Flush();
  }
  return statuses;
}

TEST(TrainerRankGuards, APauseComesAfterTheState) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->mutable_zero_spread()->set_policy("pause");
  SmallGang gang(job);
  const std::vector<absl::Status> statuses = TrainWithEqualRewards(&gang);
  EXPECT_TRUE(statuses[1].ok()) << statuses[1];
  EXPECT_EQ(PausesJobFor(statuses[2]), "");
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kGuard), 1);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kCheckpoint), 3);
  const v1::Checkpoint& last = gang.leader.reports.back().checkpoint();
  const auto state = nlohmann::json::parse(last.state());
  EXPECT_EQ(state.at("guards").at("active"), nlohmann::json::parse("[\"zero_spread\"]"))
      << "so that it does not pause again when it is resumed";
  SmallGang resumed(job);
  EXPECT_TRUE(resumed.leader.rank->Restore(state).ok());
}

TEST(TrainerRankGuards, ARollbackSendsNoState) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->mutable_zero_spread()->set_policy("rollback");
  SmallGang gang(job);
  const std::vector<absl::Status> statuses = TrainWithEqualRewards(&gang);
  EXPECT_EQ(RollsBackTo(statuses[2]), 0);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kCheckpoint), 2);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kGuard), 1);
}

}  // namespace
}  // namespace imageddpo
