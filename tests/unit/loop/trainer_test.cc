// Updates of several shards: the same bits over any number of ranks, and what a direct computation
// of loss, gradient and step gives.
#include "trainer/loop/trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "tests/testing/judged.h"
#include "tests/unit/loop/direct_trainer.h"
#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
/// Two updates of 3 micro-batches in 3 shards.
void MakeTwoUpdates(v1::JobSpec* job) {
  job->mutable_sample()->set_batch_size(12);
  job->mutable_train()->set_batch_size(6);
  job->mutable_train()->set_gradient_shards(3);
}

struct Case {
  std::string name;
  std::function<void(v1::JobSpec*)> change = [](v1::JobSpec*) {};
  int num_epochs = 1;
  size_t num_rows = 1;
};

class UpdateTest : public TrainerTest, public testing::WithParamInterface<Case> {};

/// Micro-batches against single samples: the roundings of some hundred operations in a row, each of
/// 6e-8, in terms that partly cancel. Found: up to 3e-5.
constexpr double kBound = 2e-4;

/// Relative, of the whole.
double Difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).norm() / expected.norm()).item<double>();
}

TEST_P(UpdateTest, HasTheSameBitsOverAnyNumberOfRanksAndIsTheDirectOne) {
  v1::JobSpec job = SmallJob();
  // Steps that follow the gradient's size: the default's follow its sign, and so would rounding.
  job.mutable_train()->set_adam_epsilon(0.01);
  job.mutable_train()->set_learning_rate(0.01);
  job.mutable_train()->set_clip_range(0.01);
  GetParam().change(&job);
  Epochs epochs;
  for (int epoch = 0; epoch < GetParam().num_epochs; ++epoch) {
    epochs.push_back(SampleEpoch(model(), job, epoch, 0));
  }

  const Outcome alone = Train(1, job, epochs).front();
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  ASSERT_EQ(alone.rows.size(), GetParam().num_rows);
  for (int num_ranks = 2; num_ranks <= kMostRanks; ++num_ranks) {
    for (const Outcome& outcome : Train(num_ranks, job, epochs)) ExpectSameBits(outcome, alone);
  }

  Reset();
  const at::Tensor start_P = model().lora.Flatten();
  DirectTrainer direct(&model(), job);
  std::vector<DirectTrainer::Row> rows;
  for (size_t epoch = 0; epoch < epochs.size(); ++epoch) {
    const auto more = direct.TrainEpoch(static_cast<int64_t>(epoch), epochs[epoch]);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  ASSERT_EQ(rows.size(), alone.rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const v1::EpochMetrics& row = alone.rows[i];
    EXPECT_NEAR(row.loss(), rows[i].loss, kBound);
    EXPECT_NEAR(row.approx_kl(), rows[i].approx_kl, kBound * (rows[i].approx_kl + 1e-3));
    EXPECT_NEAR(row.clipfrac(), rows[i].clipfrac, 1e-9);
    EXPECT_NEAR(row.clip_fraction_high() + row.clip_fraction_low(), row.clipfrac(), 1e-6);
    EXPECT_NEAR(row.grad_norm(), rows[i].grad_norm, kBound * rows[i].grad_norm);
    EXPECT_NEAR(row.learning_rate(), rows[i].learning_rate, 1e-15);
  }
  EXPECT_LT(Difference(alone.Moment("m", model().lora), direct.m()), kBound);
  EXPECT_LT(Difference(alone.Moment("v", model().lora), direct.v()), kBound);
  EXPECT_LT(Difference(alone.lora_P - start_P, model().lora.Flatten() - start_P), kBound);
  EXPECT_GT(direct.clip_margin(), 0.05) << "a rounding decides whether a sample is clipped";
}

INSTANTIATE_TEST_SUITE_P(
    Cases, UpdateTest,
    testing::Values(Case{.name = "one_update"},
                    Case{.name = "guided",
                         .change = [](auto* job) { job->mutable_sample()->set_guidance_scale(3); }},
                    Case{
                        .name = "clipped_norm",
                        .change = [](auto* job) { job->mutable_train()->set_max_grad_norm(0.05); }},
                    Case{.name = "inner_epochs",
                         .change =
                             [](auto* job) {
                               MakeTwoUpdates(job);
                               job->mutable_train()->set_num_inner_epochs(2);
                             },
                         .num_rows = 4},
                    Case{.name = "learning_rate",
                         .change =
                             [](auto* job) {
                               MakeTwoUpdates(job);
                               job->mutable_train()->set_num_inner_epochs(2);
                               job->mutable_train()->set_clip_range(0.5);
                               job->mutable_train()->set_lr_schedule("cosine");
                               job->mutable_train()->set_lr_warmup_updates(2);
                               job->mutable_train()->set_lr_min_ratio(0.1);
                             },
                         .num_rows = 4},
                    Case{.name = "stale",
                         .change =
                             [](auto* job) {
                               MakeTwoUpdates(job);
                               job->mutable_sample()->set_max_staleness(1);
                               job->mutable_train()->set_staleness_weight_cap(1.05);
                             },
                         .num_epochs = 2,
                         .num_rows = 4}),
    [](const auto& info) { return info.param.name; });

TEST_F(TrainerTest, TheNormIsClippedOnceOverTheWholeSum) {
  v1::JobSpec job = SmallJob();
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  const Outcome whole = Train(3, job, epochs).front();
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  const double norm = whole.rows.front().grad_norm();
  ASSERT_LT(norm, job.train().max_grad_norm());  // Nothing was clipped there.
  job.mutable_train()->set_max_grad_norm(norm / 8);
  const Outcome clipped = Train(3, job, epochs).front();
  EXPECT_EQ(clipped.rows.front().grad_norm(), norm) << "it is that before clipping";
  const at::Tensor expected_P = whole.Moment("m", model().lora) / 8;
  EXPECT_LT(Difference(clipped.Moment("m", model().lora), expected_P), 1e-5 + 1e-6 / norm);
}

TEST_F(TrainerTest, AFastSumIsTheExactOneButForRoundingAndTheSameOnAllRanks) {
  v1::JobSpec job = SmallJob();
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  const Outcome exact = Train(1, job, epochs).front();
  job.mutable_train()->set_reduce("fast");
  ExpectSameBits(Train(1, job, epochs).front(), exact);
  const std::vector<Outcome> fast = Train(3, job, epochs);
  for (const Outcome& outcome : fast) ExpectSameBits(outcome, fast.front());
  EXPECT_LT(Difference(fast.front().Moment("m", model().lora), exact.Moment("m", model().lora)),
            1e-5);
}

TEST_F(TrainerTest, ASinglePassHasTheSameBitsAndIsTheWeightedSum) {
  v1::JobSpec job = SmallJob();
  job.mutable_train()->set_update("single_pass");
  job.mutable_topology()->set_colocated(1);
  job.mutable_train()->set_max_grad_norm(1e6);
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  const Outcome alone = Train(1, job, epochs).front();
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  for (int num_ranks = 2; num_ranks <= kMostRanks; ++num_ranks) {
    for (const Outcome& outcome : Train(num_ranks, job, epochs)) ExpectSameBits(outcome, alone);
  }
  const std::vector<double> advantages = DirectAdvantages(epochs[0], job.train().adv_clip_max());
  at::Tensor sum_P = at::zeros({model().lora.num_parameters()}, at::kDouble);
  const auto num_steps = static_cast<double>(epochs[0].front().timesteps_BK.size(1));
  for (size_t i = 0; i < advantages.size(); ++i) {
    const auto sample = static_cast<int64_t>(i);
    sum_P -= GradientsOf(sample / 2)[sample % 2].to(at::kDouble) * advantages[i] / 10 / num_steps;
  }
  EXPECT_LT(Difference(alone.Moment("m", model().lora) / (1 - job.train().adam_beta1()), sum_P),
            1e-5);
}

TEST_F(TrainerTest, RowsNumberTheUpdatesOfAllInnerEpochs) {
  v1::JobSpec job = SmallJob();
  MakeTwoUpdates(&job);
  job.mutable_train()->set_num_inner_epochs(2);
  const Outcome outcome = Train(1, job, {SampleEpoch(model(), job, 0, 0)}).front();
  ASSERT_EQ(outcome.rows.size(), 4U);
  for (int64_t i = 0; i < 4; ++i) {
    const v1::EpochMetrics& row = outcome.rows[i];
    EXPECT_EQ(row.update(), i);
    EXPECT_EQ(row.inner_epoch(), i / 2);
    EXPECT_EQ(row.samples_seen(), 12);
    EXPECT_EQ(row.ratio_first_step_max_error(), 0) << "a replay repeats the rollout";
    EXPECT_EQ(row.approx_kl() == 0, i == 0) << "later updates are taken under changed weights";
  }
  EXPECT_EQ(outcome.steps(), 4);
}

/// Micro-batch m cannot be replayed to anything finite.
void Spoil(std::vector<TrajectoryBatch>* batches, int64_t m) {
  at::Tensor& latents = batches->at(m).latents;
  latents = latents.clone();
  latents.select(1, 0).fill_(std::numeric_limits<float>::quiet_NaN());
}

/// The last micro-batch of the epoch's first update: it is the last rank's.
int64_t LastOfFirstUpdate(const v1::JobSpec& job) {
  return UpdateSchedule(Judged(job).plan(), job.seed(), 1, 1).MicroBatches(0, 0, 0).back();
}

TEST_F(TrainerTest, AGradientThatIsNotFiniteOnOneRankEndsAll) {
  const v1::JobSpec job = SmallJob();
  Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  Spoil(&epochs[0], LastOfFirstUpdate(job));
  const at::Tensor before_P = model().lora.Flatten();
  for (const Outcome& outcome : Train(3, job, epochs)) {
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("not finite"));
    EXPECT_TRUE(outcome.lora_P.equal(before_P));
    EXPECT_EQ(outcome.steps(), 0);
  }
}

TEST_F(TrainerTest, WithALossScaleAllRanksSkipThatUpdateAndGoOn) {
  v1::JobSpec job = SmallJob();
  MakeTwoUpdates(&job);
  job.mutable_model()->set_precision("fp16");  // Of the loss scale; the model is in fp32.
  job.mutable_train()->set_adam_epsilon(0.01);
  Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  Spoil(&epochs[0], LastOfFirstUpdate(job));
  const Outcome alone = Train(1, job, epochs).front();
  ASSERT_TRUE(alone.status.ok()) << alone.status;
  ASSERT_EQ(alone.rows.size(), 2U);
  EXPECT_TRUE(alone.rows[0].skipped());
  EXPECT_EQ(alone.rows[0].grad_norm(), 0);
  EXPECT_EQ(alone.rows[0].loss_scale(), 32768);
  EXPECT_FALSE(alone.rows[1].skipped());
  EXPECT_EQ(alone.rows[1].skipped_updates(), 1);
  EXPECT_EQ(alone.steps(), 1);
  for (const Outcome& outcome : Train(3, job, epochs)) ExpectSameBits(outcome, alone);

  Reset();
  DirectTrainer direct(&model(), job);
  const auto rows = direct.TrainEpoch(0, epochs[0]);
  EXPECT_FALSE(std::isfinite(rows[0].grad_norm));
  EXPECT_NEAR(alone.rows[1].grad_norm(), rows[1].grad_norm, kBound * rows[1].grad_norm);
  EXPECT_LT(Difference(alone.Moment("m", model().lora), direct.m()), kBound);
}

TEST_F(TrainerTest, WhatComesBetweenMicroBatchesMayEndTheEpoch) {
  const v1::JobSpec job = SmallJob();
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  const at::Tensor before_P = model().lora.Flatten();
  int calls = 0;
  EXPECT_TRUE(Train(1, job, epochs,
                    [&] {
                      ++calls;
                      return absl::OkStatus();
                    })
                  .front()
                  .status.ok());
  EXPECT_EQ(calls, Judged(job).plan().micro_batches_per_update);
  calls = 0;
  const Outcome ended = Train(1, job, epochs, [&] {
                          return ++calls < 2 ? absl::OkStatus() : absl::CancelledError("enough");
                        }).front();
  EXPECT_EQ(ended.status, absl::CancelledError("enough"));
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(ended.lora_P.equal(before_P));
}

TEST_F(TrainerTest, EmbeddingsAreKeptForTheirEpochAlone) {
  const v1::JobSpec job = SmallJob();
  const Epochs epochs = {SampleEpoch(model(), job, 0, 0), SampleEpoch(model(), job, 1, 1)};
  Epochs once = epochs;
  for (auto& batch : once[1]) batch.new_embeddings.clear();
  const Outcome kept_none = Train(1, job, once).front();
  EXPECT_EQ(kept_none.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(kept_none.status.message()), HasSubstr("no embedding was received"));
  // One record of each epoch that brings all of them is enough for the others.
  Epochs first_record = epochs;
  for (auto& epoch : first_record) {
    for (size_t m = 1; m < epoch.size(); ++m) {
      epoch[0].new_embeddings.insert(epoch[m].new_embeddings.begin(),
                                     epoch[m].new_embeddings.end());
      epoch[m].new_embeddings.clear();
    }
  }
  const Outcome reference = Train(1, job, epochs).front();
  const Outcome shared = Train(1, job, first_record).front();
  ASSERT_TRUE(reference.status.ok() && shared.status.ok()) << reference.status << shared.status;
  EXPECT_TRUE(shared.lora_P.equal(reference.lora_P));
}

struct Wrong {
  std::string name;
  std::function<void(TrajectoryBatch*)> change;  ///< Of the second micro-batch.
  absl::StatusCode code;
  std::string message;
};

class RefusedRecord : public TrainerTest, public testing::WithParamInterface<Wrong> {};

TEST_P(RefusedRecord, EndsTheEpochBeforeAnythingIsTrained) {
  const v1::JobSpec job = SmallJob();
  Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  for (auto& batch : epochs[0]) GetParam().change(&batch);
  const at::Tensor before_P = model().lora.Flatten();
  for (const Outcome& outcome : Train(2, job, epochs)) {
    EXPECT_EQ(outcome.status.code(), GetParam().code) << outcome.status;
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr(GetParam().message));
    EXPECT_TRUE(outcome.lora_P.equal(before_P));
    EXPECT_EQ(outcome.steps(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Trainer, RefusedRecord,
    testing::Values(Wrong{.name = "of_another_version",
                          .change = [](auto* batch) { batch->weight_version = 1; },
                          .code = absl::StatusCode::kInternal,
                          .message = "LoRA version 1, expected 0"},
                    Wrong{.name = "without_its_embedding",
                          .change = [](auto* batch) { batch->new_embeddings.clear(); },
                          .code = absl::StatusCode::kInternal,
                          .message = "no embedding was received for prompt 7"},
                    Wrong{.name = "with_a_reward_that_is_not_finite",
                          .change = [](auto* batch) { batch->rewards_B[1] = NAN; },
                          .code = absl::StatusCode::kOutOfRange,
                          .message = "sample 1 has the reward nan"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace imageddpo
