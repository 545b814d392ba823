#include "common/config/resolved_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/config/job_config.h"
#include "common/config/topology.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::JobSpec Spec(const std::string& more = "") {
  return *ParseJobYaml(
      "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: incompressibility}]\n"
      "sample: {batch_size: 24, num_batches_per_epoch: 1, num_steps: 10, noise_strength: 0.8}\n" +
          more,
      "job.yaml");
}

TEST(ResolvedJob, HoldsEveryDecisionInItsType) {
  v1::JobSpec spec = Spec(
      "train: {batch_size: 24, optimizer: adamw8bit}\n"
      "advantage: {mode: per_key, stat_key: pair}\n");
  spec.mutable_model()->set_precision("bf16");
  const ResolvedJob job = *ResolvedJob::Make(spec);
  EXPECT_EQ(job.precision(), Precision::kBf16);
  EXPECT_EQ(job.optimizer(), OptimizerKind::kAdamW8bit);
  EXPECT_EQ(job.advantage().mode, AdvantageMode::kPerKey);
  EXPECT_EQ(job.advantage().stat_key, StatKey::kPair);
  ASSERT_EQ(job.rewards().size(), 1U);
  EXPECT_EQ(job.rewards()[0].type, RewardType::kJpeg);
  EXPECT_EQ(job.rewards()[0].measure, RewardMeasure::kIncompressibility);
  EXPECT_EQ(job.rewards()[0].jpeg_quality, 95);
  EXPECT_EQ(job.rewards()[0].name, "jpeg");
  EXPECT_EQ(job.rewards()[0].ValueOf(-3.25), -3.25);
  EXPECT_EQ(job.executed_steps(), 9) << "int(10 · (1 - 0.8)) is 1";
  EXPECT_TRUE(job.uses_prompt());
  EXPECT_EQ(job.spec().train().update(), "replay") << "auto is resolved";
}

TEST(ResolvedJob, TheClipsSidesAreItsRangeWhereTheyAreNotGiven) {
  const ClipRange one =
      ResolvedJob::Make(Spec("train: {batch_size: 24, clip_range: 0.01}"))->clip_range();
  EXPECT_EQ(one.low, 0.01);
  EXPECT_EQ(one.high, 0.01);
  const ClipRange two =
      ResolvedJob::Make(Spec("train: {batch_size: 24, clip_range: 0.01, clip_range_high: 0.3}"))
          ->clip_range();
  EXPECT_EQ(two.low, 0.01);
  EXPECT_EQ(two.high, 0.3);
}

TEST(ResolvedJob, GuardsHaveTheirPoliciesAndARollbackLowersTheLearningRate) {
  v1::JobSpec spec = Spec("train: {batch_size: 24, learning_rate: 0.4}");
  const ResolvedJob first = *ResolvedJob::Make(spec);
  EXPECT_EQ(first.learning_rate().peak, 0.4);
  EXPECT_EQ(first.guards().non_finite, GuardPolicy::kFail);
  EXPECT_EQ(first.guards().reward_collapse.policy, GuardPolicy::kWarn);
  EXPECT_EQ(first.guards().reward_collapse.threshold, 6);
  spec.mutable_guards()->set_rollbacks(2);
  spec.mutable_guards()->mutable_held_out()->set_policy("off");
  const ResolvedJob third = *ResolvedJob::Make(spec);
  EXPECT_EQ(third.learning_rate().peak, 0.1);
  EXPECT_EQ(third.guards().rollbacks, 2);
  EXPECT_EQ(third.guards().held_out.policy, GuardPolicy::kOff);
}

TEST(ResolvedJob, SizeResizingAndCorruption) {
  const auto data_of = [](const std::string& setting) {
    v1::JobSpec spec = Spec();
    EXPECT_TRUE(ApplyJobSetting(setting, &spec).ok());
    return ResolvedJob::Make(spec)->data();
  };
  EXPECT_FALSE(data_of("seed=1").size.given()) << "the model's own";
  EXPECT_EQ(data_of("seed=1").resize, ResizeMode::kCrop);
  EXPECT_FALSE(data_of("seed=1").corrupt.has_value());
  EXPECT_EQ(data_of("data.resolution=64").size, (PictureSize{64, 64}));
  EXPECT_EQ(data_of("data.resolution=[96, 64]").size, (PictureSize{96, 64}));
  EXPECT_EQ(data_of("data.resize=pad").resize, ResizeMode::kPad);
  const auto corrupt = data_of("data.corrupt={kind: fog, severity: 4}").corrupt;
  ASSERT_TRUE(corrupt.has_value());
  EXPECT_EQ(corrupt->kind, CorruptKind::kFog);
  EXPECT_EQ(corrupt->severity, 4);
  EXPECT_EQ(corrupt->seed, 0U);
  EXPECT_EQ(data_of("seed=1").severity, 0);
  EXPECT_EQ(data_of("data.severity=4").severity, 4);
}

TEST(ResolvedJob, AnOpenMicroBatchIsClosedWithWhatFollowsFromIt) {
  const ResolvedJob open = *ResolvedJob::Make(Spec("train: {batch_size: 24}\n"));
  EXPECT_TRUE(open.micro_batch_is_open());
  EXPECT_EQ(open.plan().device_batch_size, 24);
  EXPECT_THAT(open.MicroBatchChoices(12), ElementsAre(12, 8, 6, 4, 3, 2, 1));
  const ResolvedJob closed = *open.WithMicroBatch(2);
  EXPECT_FALSE(closed.micro_batch_is_open());
  EXPECT_EQ(closed.spec().eval().batch_size(), 2);
  EXPECT_EQ(closed.spec().train().gradient_shards(), 12);
  EXPECT_EQ(closed.plan().gradient_shards, 12);
  EXPECT_FALSE(open.WithMicroBatch(5).ok()) << "24 samples are no multiple of 5";
  const ResolvedJob given =
      *ResolvedJob::Make(Spec("train: {batch_size: 24}\neval: {batch_size: 7}\n"));
  EXPECT_EQ(given.WithMicroBatch(2)->spec().eval().batch_size(), 7);
}

TEST(ResolvedJob, AChangedJobIsJudgedAgain) {
  const ResolvedJob job = *ResolvedJob::Make(Spec());
  const auto changed = job.With([](v1::JobSpec* spec) { spec->mutable_lora()->set_rank(0); });
  EXPECT_THAT(std::string(changed.status().message()), HasSubstr("`lora.rank` is 0"));
  const ResolvedJob single =
      *ResolvedJob::Make(Spec("train: {batch_size: 24}\ndevice: {device_batch_size: 4}\n"));
  EXPECT_FALSE(single.plan().single_pass);
  const Topology two = {.rollout = 2, .trainer = 2, .colocated = true};
  EXPECT_TRUE(WithTopology(single, two)->plan().single_pass) << "auto is resolved anew";
  const Topology seven = {.rollout = 7, .trainer = 7, .colocated = true};
  EXPECT_FALSE(WithTopology(single, seven).ok()) << "more trainers than gradient shards";
}

/// A job that was stored before the number of its gradient shards was: it had at most 8.
TEST(ResolvedJob, AnOlderStoredJobKeepsItsShards) {
  v1::JobSpec stored =
      ResolvedJob::Make(Spec("train: {batch_size: 24}\ndevice: {device_batch_size: 1}\n"))->spec();
  EXPECT_EQ(stored.train().gradient_shards(), 0);
  EXPECT_EQ(ResolvedJob::Make(stored)->plan().gradient_shards, 24);
  EXPECT_EQ(ResolvedJob::Reopen(stored)->plan().gradient_shards, 8);
  EXPECT_EQ(ResolvedJob::Reopen(stored)->spec().train().gradient_shards(), 8);
  stored.mutable_train()->set_gradient_shards(24);
  EXPECT_EQ(ResolvedJob::Reopen(stored)->plan().gradient_shards, 24);
}

/// A job that was stored before images were looked for in sub-folders.
TEST(ResolvedJob, AnOlderStoredJobKeepsItsImages) {
  v1::JobSpec stored = ResolvedJob::Make(Spec())->spec();
  EXPECT_EQ(ResolvedJob::Reopen(stored)->data().layout, DataLayout::kAuto);
  stored.mutable_data()->clear_layout();
  EXPECT_EQ(ResolvedJob::Reopen(stored)->data().layout, DataLayout::kFlat);
}

TEST(ResolvedJob, DataIsJudged) {
  EXPECT_EQ(ResolvedJob::Make(Spec())->data().on_error, OnDataError::kFail);
  v1::JobSpec spec = Spec();
  spec.mutable_data()->set_on_error("skip");
  EXPECT_EQ(ResolvedJob::Make(spec)->data().on_error, OnDataError::kSkip);
  spec.mutable_data()->set_on_error("skipp");
  spec.mutable_data()->set_layout("deep");
  spec.mutable_data()->set_text_column("");
  const std::string message(ResolvedJob::Make(spec).status().message());
  EXPECT_THAT(message, HasSubstr("`data.on_error` is `skipp`"));
  EXPECT_THAT(message, HasSubstr("did you mean `skip`?"));
  EXPECT_THAT(message, HasSubstr("`data.layout` is `deep`; it must be one of auto, flat"));
  EXPECT_THAT(message, HasSubstr("`data.text_column`"));
}

TEST(ResolvedJob, KnowsWhetherAServiceScores) {
  v1::JobSpec spec = Spec("train: {batch_size: 24}");
  EXPECT_FALSE(ResolvedJob::Make(spec)->asks_a_service());
  v1::RewardSpec* const reward = spec.add_rewards();
  reward->set_type("service");
  reward->set_name("mean");
  reward->add_endpoints("127.0.0.1:7000");
  const absl::StatusOr<ResolvedJob> job = ResolvedJob::Make(spec);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_TRUE(job->asks_a_service());
}

}  // namespace
}  // namespace imageddpo
