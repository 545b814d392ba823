// One trainer rank through the phases of a job, with the other ranks played by the test: records
// in, versions out, receipts checked, reports made.
#include "trainer/loop/trainer_rank.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/comm/mailbox/thread_communicator.h"
#include "common/io/safetensors.h"
#include "common/trajectory/record/tags.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/small_job.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

constexpr int kRollouts = SmallGang::kNumRollout;

std::vector<std::string> RowsOf(const v1::EpochReport& report) {
  return {report.metrics_rows().begin(), report.metrics_rows().end()};
}

TEST(TrainerRank, TrainsTheSameBitsInWhateverOrderRecordsArrive) {
  std::optional<at::Tensor> expected_P;
  std::vector<std::string> expected_rows;
  for (const std::vector<int>& order : {std::vector<int>{0, 1}, {1, 0}}) {
    SmallGang gang(SmallJob());
    const at::Tensor before_P = gang.LoraValues();
    gang.rollout.Send(gang.Sample(0, 0), order);
    ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());
    gang.rollout.Flush();
    if (!expected_P.has_value()) {
      expected_P = gang.LoraValues();
      expected_rows = RowsOf(gang.leader.last_epoch());
      EXPECT_FALSE(expected_P->equal(before_P));
    }
    EXPECT_TRUE(gang.LoraValues().equal(*expected_P));
    EXPECT_EQ(RowsOf(gang.leader.last_epoch()), expected_rows);
  }
}

TEST(TrainerRank, TheLeaderReportsWhatTheEpochWas) {
  SmallGang gang(SmallJob());
  auto batches = gang.Sample(0, 0);
  batches[0].pictures = {{"0-output.png", "a picture"}};
  batches[1].sample_seconds = 4;
  gang.leader.rank->PublishWeights(0);
  gang.rollout.Send(batches);
  ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());

  // At the start and after each micro-batch, and the epoch.
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kProgress), 1 + 5);
  ASSERT_EQ(gang.leader.Count(v1::WorkerMessage::kEpoch), 1);
  const v1::Progress& progress = gang.leader.reports[0].progress();
  EXPECT_EQ(progress.stage(), "training");
  EXPECT_EQ(progress.samples_done(), 10);
  const v1::EpochReport& report = gang.leader.last_epoch();
  EXPECT_EQ(report.job_id(), "job-1");
  const v1::EpochMetrics& metrics = report.metrics();
  EXPECT_EQ(metrics.epoch(), 0);
  EXPECT_EQ(metrics.samples_seen(), 10);
  double reward_sum = 0;
  for (const auto& batch : batches) reward_sum += batch.rewards_B.sum().item<double>();
  EXPECT_NEAR(metrics.reward_mean(), reward_sum / 10, 1e-12);
  ASSERT_EQ(report.metrics_rows_size(), 1);
  const auto row = nlohmann::json::parse(report.metrics_rows(0));
  EXPECT_EQ(row.at("grad_norm"), metrics.grad_norm());
  EXPECT_NEAR(row.at("parts_mean").at("jpeg"), 2 * metrics.reward_mean(), 1e-12);
  EXPECT_GT(metrics.grad_norm(), 0);
  ASSERT_EQ(report.pictures_size(), 1);
  EXPECT_EQ(report.pictures(0).data(), "a picture");
  EXPECT_EQ(metrics.epoch_seconds(), TrainerSide::kTrainSeconds);
  EXPECT_EQ(metrics.stage_seconds().at("train"), TrainerSide::kTrainSeconds);
  EXPECT_EQ(metrics.stage_seconds().at("wait"), 0);
  EXPECT_EQ(metrics.stage_seconds().at("sample"), 4.0 / kRollouts);
  EXPECT_FALSE(metrics.has_sample_age());
}

struct WrongMessage {
  std::string field;
  std::function<void(TrajectoryBatch*)> change;
};

class RefusedByARank : public testing::TestWithParam<WrongMessage> {};

TEST_P(RefusedByARank, ARecordOfAnythingElse) {
  SmallGang gang(SmallJob());
  auto batches = gang.Sample(0, 0);
  const at::Tensor before_P = gang.LoraValues();
  for (auto& batch : batches) {
    const int rank = static_cast<int>(batch.micro_batch % kRollouts);
    if (batch.micro_batch == 3) GetParam().change(&batch);  // Of rank 1, its second one.
    gang.rollout.SendOne(rank, batch);
  }
  const absl::Status status = gang.leader.rank->TrainEpoch(0);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("gang rank 1: " + GetParam().field + " is"));
  EXPECT_TRUE(gang.LoraValues().equal(before_P));
  EXPECT_TRUE(gang.leader.reports.empty());
}

INSTANTIATE_TEST_SUITE_P(
    TrainerRank, RefusedByARank,
    testing::Values(WrongMessage{"job_id", [](auto* batch) { batch->job_id = "job-2"; }},
                    WrongMessage{"epoch", [](auto* batch) { batch->epoch = 1; }},
                    WrongMessage{"micro_batch", [](auto* batch) { batch->micro_batch = 4; }},
                    WrongMessage{"weight_version", [](auto* batch) { batch->weight_version = 1; }}),
    [](const auto& info) { return info.param.field; });

TEST(TrainerRank, PublishesACopyOfEachVersionAndChecksReceipts) {
  SmallGang gang(SmallJob());
  TrainerRank& rank = *gang.leader.rank;
  for (int64_t version = 0; version < 2; ++version) {
    rank.PublishWeights(version);
    const at::Tensor version_P = gang.LoraValues();
    const std::string hash = gang.leader.model.lora.Hash();
    if (version == 0) {  // Training goes on, and what is under way stays as it was.
      gang.rollout.Send(gang.Sample(0, 0));
      ASSERT_TRUE(rank.TrainEpoch(0).ok());
      ASSERT_FALSE(gang.LoraValues().equal(version_P));
    }
    for (int receiver = 0; receiver < kRollouts; ++receiver) {
      const auto [announcement, values_P] =
          gang.rollout.TakeWeights(receiver, gang.num_parameters());
      EXPECT_EQ(announcement.version(), version);
      EXPECT_EQ(announcement.hash(), hash);
      EXPECT_TRUE(values_P.equal(version_P));
      gang.rollout.Answer(receiver, kReceiptTag, RolloutSide::ReceiptFor(announcement));
    }
    EXPECT_TRUE(rank.CheckReceipts(version).ok());
  }
}

TEST(TrainerRank, TheLastVersionIsPublishedToNobodyUnlessItIsEvaluated) {
  const v1::JobSpec job = SmallJob();
  SmallGang gang(job);
  gang.leader.rank->PublishWeights(job.num_epochs());
  ASSERT_FALSE(gang.rollout.HasWeights(0, 0));
  EXPECT_TRUE(gang.leader.rank->CheckReceipts(job.num_epochs()).ok()) << "there is none to check";
}

struct Receipt {
  std::string name;
  std::function<void(v1::WeightReceipt*)> change;
  std::string message;
};

class DifferentReceipt : public testing::TestWithParam<Receipt> {};

TEST_P(DifferentReceipt, EndsTheJob) {
  SmallGang gang(SmallJob());
  gang.leader.rank->PublishWeights(0);
  for (int receiver = 0; receiver < kRollouts; ++receiver) {
    auto receipt =
        RolloutSide::ReceiptFor(gang.rollout.TakeWeights(receiver, gang.num_parameters()).first);
    if (receiver == 1) GetParam().change(&receipt);
    gang.rollout.Answer(receiver, kReceiptTag, receipt);
  }
  const absl::Status status = gang.leader.rank->CheckReceipts(0);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("gang rank 1: " + GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    TrainerRank, DifferentReceipt,
    testing::Values(Receipt{"version", [](auto* receipt) { receipt->set_version(1); },
                            "its LoRA version is 1, expected 0"},
                    Receipt{"modules", [](auto* receipt) { receipt->set_modules_bound(0); },
                            "its number of bound modules is 0"},
                    Receipt{"hash", [](auto* receipt) { receipt->set_hash("0123"); },
                            "its LoRA hash is 0123"}),
    [](const auto& info) { return info.param.name; });

TEST(TrainerRank, AStopEndsTheEpochBeforeItsRecordsAreTaken) {
  SmallGang gang(SmallJob());
  gang.rollout.Send(gang.Sample(0, 0));
  gang.leader.stop.Request();
  EXPECT_EQ(gang.leader.rank->TrainEpoch(0).code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(gang.leader.reports.empty());
}

TEST(TrainerRank, AStopBetweenMicroBatchesEndsTheEpoch) {
  SmallGang gang(SmallJob());
  const at::Tensor before_P = gang.LoraValues();
  gang.leader.when_training_starts = [&] { gang.leader.stop.Request(); };
  gang.rollout.Send(gang.Sample(0, 0));
  EXPECT_EQ(gang.leader.rank->TrainEpoch(0).code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(gang.LoraValues().equal(before_P));
  EXPECT_EQ(gang.leader.trainer->state().epochs_trained, 0);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kEpoch), 0);
}

v1::JobSpec StaleJob() {
  v1::JobSpec job = SmallJob();
  job.set_num_epochs(4);
  job.mutable_sample()->set_max_staleness(1);
  return job;
}

TEST(TrainerRank, WithStalenessTheNextEpochIsSampledAheadAndTrainedAsOld) {
  SmallGang gang(StaleJob());
  TrainerRank& rank = *gang.leader.rank;
  const auto of_epoch_1 = gang.Sample(1, 0);
  rank.PublishWeights(0);
  gang.rollout.TakeAndAnswer(gang.num_parameters());
  ASSERT_TRUE(rank.CheckReceipts(0).ok());
  gang.rollout.Send(gang.Sample(0, 0));
  // Those of epoch 1 come while epoch 0 is trained, and are taken in between its micro-batches.
  gang.leader.when_training_starts = [&] { gang.rollout.Send(of_epoch_1); };
  ASSERT_TRUE(rank.TrainEpoch(0).ok());
  gang.rollout.Flush();
  EXPECT_EQ(gang.leader.last_epoch().metrics().sample_age(), 0);

  gang.leader.when_training_starts = [] {};
  rank.PublishWeights(1);
  const at::Tensor version_1_P = gang.LoraValues();
  ASSERT_TRUE(rank.CheckReceipts(0).ok());  // Those of version 1 may take until epoch 2.
  ASSERT_TRUE(rank.TrainEpoch(1).ok());
  const v1::EpochMetrics& staleness = gang.leader.last_epoch().metrics();
  EXPECT_EQ(staleness.sample_age(), 1);
  EXPECT_NE(staleness.behaviour_ratio_mean(), 1);
  EXPECT_EQ(staleness.proximal_ratio_mean(), 1) << "the only update starts from the epoch's start";
  EXPECT_FALSE(gang.LoraValues().equal(version_1_P));
  EXPECT_TRUE(gang.leader.trainer->LoraOf(1).Flatten().equal(version_1_P));

  rank.PublishWeights(2);
  for (int64_t version = 1; version < 3; ++version) {
    const auto [announcement, values_P] = gang.rollout.TakeWeights(0, gang.num_parameters());
    EXPECT_EQ(announcement.version(), version);
    EXPECT_TRUE(values_P.equal(version == 1 ? version_1_P : gang.LoraValues()));
  }
}

TEST(TrainerRank, WithStalenessARecordOfTheNewestVersionIsRefused) {
  SmallGang gang(StaleJob());
  gang.rollout.Send(gang.Sample(0, 0));
  ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());
  gang.rollout.Send(gang.Sample(1, 1));
  const absl::Status status = gang.leader.rank->TrainEpoch(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("weight_version is 1, expected 0"));
}

TEST(TrainerRank, CollectsTheEvaluationsOfVersionsThatAreBoundEverywhere) {
  v1::JobSpec job = SmallJob();
  job.mutable_eval()->set_path("held-out");
  job.mutable_eval()->set_batch_size(2);
  const auto batch = [](int64_t first, const std::vector<double>& rewards, int64_t version) {
    v1::EvalBatch eval;
    eval.set_weight_version(version);
    eval.set_first_sample(first);
    eval.set_num_images(3);
    eval.add_part_names("jpeg");
    for (const double reward : rewards) {
      eval.add_image_ids("image");
      eval.add_rewards(reward);
      eval.add_parts(2 * reward);
    }
    return eval;
  };
  for (const int64_t version : {0, 1}) {  // The second batch's, of which 0 is right.
    SmallGang gang(job);
    EXPECT_TRUE(gang.leader.rank->CollectEvaluations().ok()) << "none is due yet";
    gang.leader.rank->PublishWeights(0);
    gang.rollout.TakeAndAnswer(gang.num_parameters());
    ASSERT_TRUE(gang.leader.rank->CheckReceipts(0).ok());
    gang.rollout.Answer(1, kEvalTag, batch(2, {6}, version));
    gang.rollout.Answer(0, kEvalTag, batch(0, {1, 2}, 0));
    const absl::Status status = gang.leader.rank->CollectEvaluations();
    if (version == 1) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("gang rank 1"));
      continue;
    }
    ASSERT_TRUE(status.ok()) << status;
    const v1::EvalReport& report = gang.leader.reports.back().eval();
    EXPECT_EQ(report.epoch(), 0);
    EXPECT_EQ(report.num_images(), 3);
    EXPECT_EQ(report.reward_mean(), 3);
    EXPECT_EQ(report.parts_mean().at("jpeg"), 6);
  }
}

TEST(TrainerRank, TheCheckpointIsTheStateAfterTheEpoch) {
  SmallGang gang(SmallJob());
  gang.rollout.Send(gang.Sample(0, 0));
  ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());
  ASSERT_TRUE(gang.leader.rank->SendCheckpoint().ok());
  const v1::Checkpoint& checkpoint = gang.leader.reports.back().checkpoint();
  EXPECT_EQ(checkpoint.epoch(), 1);
  EXPECT_FALSE(checkpoint.spare());  // The first epoch always has one.
  const auto tensors = ParseSafetensors(checkpoint.lora(), "lora");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  for (const auto& [name, tensor] : gang.leader.model.lora.ToTensors()) {
    EXPECT_TRUE(tensors->at(name).equal(tensor)) << name;
  }
  SmallGang resumed(SmallJob());
  resumed.leader.model.lora.CopyFrom(gang.leader.model.lora);
  const auto restored =
      resumed.leader.trainer->Restore(*ParseSafetensors(checkpoint.optimizer(), "optimizer"),
                                      nlohmann::json::parse(checkpoint.state()));
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(resumed.leader.trainer->state().epochs_trained, 1);
}

TEST(TrainerRank, TwoShareTheWorkAndTheLeaderAloneSpeaks) {
  const v1::JobSpec job = SmallJob();
  SmallGang alone(job);
  alone.rollout.Send(alone.Sample(0, 0));
  ASSERT_TRUE(alone.leader.rank->TrainEpoch(0).ok());

  const auto gang = MakeThreadCommunicators(kRollouts + 2);
  TrainerSide leader(job, 2, 0, gang[kRollouts].get()), other(job, 2, 1, gang[kRollouts + 1].get());
  RolloutSide rollout(2, leader.trainer->schedule(), gang);
  EXPECT_FALSE(other.rank->is_leader());
  other.rank->PublishWeights(0);
  ASSERT_FALSE(rollout.HasWeights(0, 1));
  EXPECT_TRUE(other.rank->CheckReceipts(0).ok());
  EXPECT_TRUE(other.rank->CollectEvaluations().ok());
  rollout.Send(SampleEpoch(leader.model, job, 0, 0), {1, 0});
  RunOnThreads(2, [&](int index) {
    TrainerSide& one = index == 0 ? leader : other;
    const absl::Status status = one.rank->TrainEpoch(0);
    EXPECT_TRUE(status.ok()) << status;
  });
  rollout.Flush();
  EXPECT_TRUE(other.rank->SendCheckpoint().ok());
  EXPECT_TRUE(other.reports.empty());
  EXPECT_EQ(RowsOf(leader.last_epoch()), RowsOf(alone.leader.last_epoch()));
  for (const TrainerSide* one : {&leader, &other}) {
    EXPECT_TRUE(one->model.lora.Flatten().equal(alone.LoraValues()));
  }
}

TEST(TrainerRank, ATrainerThatGivesUpEndsTheOther) {
  const v1::JobSpec job = SmallJob();
  const auto gang = MakeThreadCommunicators(kRollouts + 2);
  TrainerSide leader(job, 2, 0, gang[kRollouts].get());
  RolloutSide rollout(2, leader.trainer->schedule(), gang);
  rollout.Send(SampleEpoch(leader.model, job, 0, 0));
  const at::Tensor before_P = leader.model.lora.Flatten();
  leader.when_training_starts = [&] { gang[kRollouts + 1]->Abort("its job failed"); };
  try {
    const absl::Status status = leader.rank->TrainEpoch(0);
    ADD_FAILURE() << "ended with " << status;
  } catch (const CommError& error) {
    EXPECT_EQ(error.kind(), CommError::Kind::kAborted);
  }
  EXPECT_TRUE(leader.model.lora.Flatten().equal(before_P));
}

}  // namespace
}  // namespace imageddpo
