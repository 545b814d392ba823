#include "common/plan/predict.h"

#include <string>

#include "common/config/job_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// 8 samples an epoch in 8 micro-batches, 2 updates of 4, 2 executed steps.
ResolvedJob SmallJob(const std::string& more = "") {
  return *ResolvedJob::Make(*ParseJobYaml(
      "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: compressibility}]\n"
      "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 8, "
      "num_batches_per_epoch: 1}\ntrain: {batch_size: 4}\ndevice: {device_batch_size: 1}\n" +
          more,
      "job.yaml"));
}

ResolvedJob With(const ResolvedJob& job, const std::string& setting) {
  return *job.With(
      [&](v1::JobSpec* spec) { EXPECT_TRUE(ApplyJobSetting(setting, spec).ok()) << setting; });
}

/// A step takes 1 s a row, 1.5 s with gradients by sample, 3 s in an update; decoding 0.5 s.
PlanInputs Inputs() {
  PlanInputs inputs;
  inputs.model.unet = {.flops = 100,
                       .parameters = 1e6,
                       .saved_values = 5e6,
                       .recomputed_values = 1e6,
                       .live_values = 1e5};
  inputs.model.encoder = {.flops = 10, .parameters = 1e5, .live_values = 1e5};
  inputs.model.decoder = {.flops = 10, .parameters = 1e5, .live_values = 2e5};
  inputs.model.text = {.flops = 10, .parameters = 1e5};
  inputs.model.unet.lora_parameters = 1000;
  inputs.model.latent_channels = 1;
  inputs.model.latent = {2, 2};
  inputs.model.image = {1, 1};
  inputs.costs.sample_step = CostCurve({{100, 1}});
  inputs.costs.gradient_step = CostCurve({{100, 1.5}});
  inputs.costs.replay_step = CostCurve({{100, 3}});
  inputs.costs.decode = CostCurve({{10, 0.5}});
  inputs.costs.encode = CostCurve({{10, 0.25}});
  inputs.costs.link = {
      .latency_seconds = 1, .message_seconds = 0.1, .bytes_per_second = 4000, .measured = true};
  return inputs;
}

constexpr Topology kOne = {.rollout = 1, .trainer = 1, .colocated = true};
constexpr Topology kThreeAndTwo = {.rollout = 3, .trainer = 2, .colocated = false};

Prediction Of(const ResolvedJob& job, const Topology& topology, const PlanInputs& inputs) {
  const auto prediction = Predict(job, topology, inputs);
  EXPECT_TRUE(prediction.ok()) << prediction.status();
  return prediction.value_or(Prediction());
}

TEST(Predict, OneRankByHand) {
  const Prediction one = Of(SmallJob("topology: auto"), kOne, Inputs());
  EXPECT_FALSE(one.single_pass);  // Two updates an epoch.
  EXPECT_DOUBLE_EQ(one.seconds.steps, 8 * 2 * 1);
  EXPECT_DOUBLE_EQ(one.seconds.decode, 8 * 0.5);
  EXPECT_DOUBLE_EQ(one.seconds.replay, 8 * 2 * 3);
  EXPECT_DOUBLE_EQ(one.first_pass_encode, 8 * 0.25);
  EXPECT_DOUBLE_EQ(one.seconds.encode, 0);
  // The announcement and the receipt; the values stay on the rank.
  EXPECT_DOUBLE_EQ(one.seconds.publish, 2 * (1 + 0.1));
  // The last record: 4·3·4 bytes of latents, 256·2 + 12·2 of head.
  EXPECT_DOUBLE_EQ(one.seconds.stream, 1 + 0.3 + 584.0 / 4000);
  EXPECT_DOUBLE_EQ(one.seconds.exchange, 0);
  EXPECT_NEAR(one.epoch_seconds, 20 + 48 + 2.2 + 1.446, 1e-9);
  EXPECT_NEAR(one.images_per_second(), 8 / 71.646, 1e-9);
  EXPECT_THAT(one.saturates, HasSubstr("training (67%)"));
}

TEST(Predict, ThreeAndTwoByHandInLockStep) {
  const Prediction split = Of(SmallJob(), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(split.seconds.rollout(), 3 * 2.5);  // 3 of 8 micro-batches on the busiest rank.
  EXPECT_DOUBLE_EQ(split.seconds.replay, 2 * 2 * 2 * 3);
  // Three announcements, three receipts and 4000 bytes of LoRA on each of two levels.
  EXPECT_DOUBLE_EQ(split.seconds.publish, 2 * (1 + 0.3) + 2 * (1 + 0.1 + 1));
  // Half of 2 shards each way, half a gradient each way and the statistics, twice.
  EXPECT_DOUBLE_EQ(split.seconds.exchange, 2 * ((1 + 0.2 + 1) + (1 + 0.1 + 0.5) + (1 + 0.1)));
  EXPECT_NEAR(split.epoch_seconds, 7.5 + 24 + 6.8 + 1.446 + 9.8, 1e-9);
}

TEST(Predict, AFastSumSendsTwoHalvesOfAGradientWhateverTheShards) {
  const ResolvedJob job = With(SmallJob(), "train.reduce=fast");
  const Prediction fast = Of(job, kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(fast.seconds.exchange, 2 * (2 * (1 + 0.1 + 0.5) + (1 + 0.1)));
  EXPECT_DOUBLE_EQ(fast.trainer_memory.shards, 4 * 2 * 1000);
  EXPECT_DOUBLE_EQ(Of(job, kOne, Inputs()).seconds.exchange, 0);
}

TEST(Predict, RunningAheadTakesTheSlowerSide) {
  const ResolvedJob job = With(SmallJob(), "sample.max_staleness=1");
  const Prediction split = Of(job, kThreeAndTwo, Inputs());
  // The second update's 2 micro-batches of a trainer, 2 steps, without gradients.
  EXPECT_DOUBLE_EQ(split.seconds.proximal, 2 * 2 * 1);
  EXPECT_NEAR(split.epoch_seconds, 24 + 4 + 6.8 + 1.446 + 9.8, 1e-9);
  PlanInputs slow_rollout = Inputs();
  slow_rollout.costs.decode = CostCurve({{10, 100}});
  EXPECT_NEAR(Of(job, kThreeAndTwo, slow_rollout).epoch_seconds, 3 * 102 + 6.8, 1e-9);
  // One rank cannot overlap with itself.
  EXPECT_GT(Of(job, kOne, Inputs()).epoch_seconds, Of(job, kOne, Inputs()).seconds.rollout() + 48);
}

TEST(Predict, TheBaseModelsStepsAndTheMeansOfStepsCount) {
  const Prediction base = Of(With(SmallJob(), "train.kl_coef=0.1"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(base.seconds.steps, 8 * 2 * (1 + 1));
  // To the 584 bytes of a record come two means of 4 values of 4 bytes.
  EXPECT_DOUBLE_EQ(base.seconds.stream, 1 + 0.3 + (584.0 + 32) / 4000);
  const Prediction kl = Of(With(SmallJob(), "train.trust_region=kl"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(kl.seconds.steps, 8 * 2 * 1);
  EXPECT_DOUBLE_EQ(kl.seconds.stream, 1 + 0.3 + (584.0 + 32) / 4000);
}

TEST(Predict, OnlyTrainedStepsAreReplayedRecordedAndHaveGradients) {
  const Prediction half = Of(With(SmallJob(), "train.step_fraction=0.5"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(half.seconds.steps, 8 * 2 * 1);
  EXPECT_DOUBLE_EQ(half.seconds.replay, 8 * 1 * 3);
  // Two latents of 4 values; 256·2 + 12·1 of head.
  EXPECT_DOUBLE_EQ(half.seconds.stream, 1 + 0.3 + (32.0 + 524) / 4000);
  const Prediction base =
      Of(With(With(SmallJob(), "train.step_fraction=0.5"), "train.kl_coef=0.1"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(base.seconds.steps, 8 * (2 + 1) * 1);
  const ResolvedJob single = With(With(SmallJob(), "train.batch_size=8"), "train.update=auto");
  EXPECT_DOUBLE_EQ(Of(With(single, "sample.sde_window={size: 1}"), kOne, Inputs()).seconds.steps,
                   8 * (1 * 1.5 + 1 * 1));
}

TEST(Predict, TargetImagesAreNoisedOnceAndNotSampled) {
  const Prediction sft = Of(With(SmallJob(), "train.objective=sft"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(sft.seconds.steps, 0);
  EXPECT_DOUBLE_EQ(sft.seconds.decode, 0);
  EXPECT_DOUBLE_EQ(sft.seconds.reward, 0);
  EXPECT_DOUBLE_EQ(sft.seconds.replay, 8 * 1 * 3);
  EXPECT_DOUBLE_EQ(sft.first_pass_encode, 8 * 0.25);
}

TEST(Predict, StreamingCountsWhereATrainerCannotKeepUp) {
  PlanInputs inputs = Inputs();
  inputs.costs.link.bytes_per_second = 100;
  const Prediction split = Of(SmallJob(), kThreeAndTwo, inputs);
  // 8 heads of 536 bytes, half of the latents' 48; 24 messages.
  EXPECT_NEAR(split.seconds.stream, 1 + 2.4 + 8 * (536 + 24) / 100.0 - 7.5, 1e-9);
}

TEST(Predict, ASinglePassReplaysNothing) {
  const ResolvedJob job = With(With(SmallJob(), "train.batch_size=8"), "train.update=auto");
  const Prediction one = Of(job, kOne, Inputs());
  EXPECT_TRUE(one.single_pass);
  EXPECT_DOUBLE_EQ(one.seconds.steps, 8 * 2 * 1.5);
  EXPECT_DOUBLE_EQ(one.seconds.replay, 0);  // But for sums, which cost nothing here.
  EXPECT_DOUBLE_EQ(one.rollout_memory.sample_gradients, 4 * 1000 * (8 + 1));
  EXPECT_FALSE(Of(job, kThreeAndTwo, Inputs()).single_pass);
  const ResolvedJob single = With(With(job, "topology={colocated: 1}"), "train.update=single_pass");
  EXPECT_THAT(Predict(single, kThreeAndTwo, Inputs()).status().message(),
              HasSubstr("single_pass` is not possible"));
}

TEST(Predict, GuidanceInnerEpochsAndAccumulation) {
  const Prediction plain = Of(SmallJob(), kThreeAndTwo, Inputs());
  const Prediction guided = Of(With(SmallJob(), "sample.guidance_scale=5"), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(guided.seconds.steps, 2 * plain.seconds.steps);
  EXPECT_DOUBLE_EQ(guided.seconds.replay, 2 * plain.seconds.replay);
  const Prediction inner = Of(With(SmallJob(), "train.num_inner_epochs=3"), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(inner.seconds.replay, 3 * plain.seconds.replay);
  EXPECT_DOUBLE_EQ(inner.seconds.exchange, 3 * plain.seconds.exchange);
  // Each inner epoch distributes the micro-batches again, so that each trainer needs more of them.
  EXPECT_GT(inner.trainer_memory.trajectories, plain.trainer_memory.trajectories);
  const Prediction once =
      Of(With(SmallJob(), "train.gradient_accumulation_steps=2"), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(once.seconds.replay, plain.seconds.replay);
  EXPECT_LT(once.seconds.exchange, plain.seconds.exchange);
}

TEST(Predict, MemoryByHand) {
  const Prediction split = Of(SmallJob(), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(split.rollout_memory.weights, 4 * 1.3e6);
  EXPECT_DOUBLE_EQ(split.trainer_memory.weights, 4 * 1e6);
  EXPECT_DOUBLE_EQ(split.rollout_memory.lora, 4 * 1000);
  EXPECT_DOUBLE_EQ(split.trainer_memory.lora, 16 * 1000);
  EXPECT_DOUBLE_EQ(split.rollout_memory.activations, 4 * 2e5);
  EXPECT_DOUBLE_EQ(split.trainer_memory.activations, 4 * 5e6);
  // Two shards of its own and half of the other two, with their sum's half.
  EXPECT_DOUBLE_EQ(split.trainer_memory.shards, 4 * 3.5 * 1000);
  EXPECT_DOUBLE_EQ(split.trainer_memory.trajectories, 8 * (536 + 0.5 * 48));
  EXPECT_DOUBLE_EQ(split.rollout_memory.trajectories, 4 * 2 * (536 + 0.5 * 48));
  const Prediction half = Of(With(SmallJob(), "model.precision=bf16"), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(half.trainer_memory.weights, 2 * 1e6);
  EXPECT_DOUBLE_EQ(half.trainer_memory.lora, split.trainer_memory.lora);
  const Prediction small =
      Of(With(SmallJob(), "train.optimizer=adamw8bit"), kThreeAndTwo, Inputs());
  EXPECT_DOUBLE_EQ(small.trainer_memory.lora, 10 * 1000);
  const Prediction one = Of(SmallJob(), kOne, Inputs());
  EXPECT_DOUBLE_EQ(one.rollout_memory.total(), one.trainer_memory.total());
  EXPECT_DOUBLE_EQ(one.rollout_memory.weights, 4 * 1.3e6);
  EXPECT_DOUBLE_EQ(one.trainer_memory.shards, 4 * 2 * 1000);  // The sum and what is added to it.
}

TEST(Predict, GradientCheckpointingTakesAForwardPassMoreAndLessMemory) {
  const ResolvedJob job = With(SmallJob(), "device.gradient_checkpointing=true");
  const Prediction kept = Of(SmallJob(), kOne, Inputs()), recomputed = Of(job, kOne, Inputs());
  EXPECT_DOUBLE_EQ(recomputed.seconds.replay, kept.seconds.replay + 8 * 2 * 1);
  EXPECT_DOUBLE_EQ(recomputed.seconds.steps, kept.seconds.steps);
  EXPECT_DOUBLE_EQ(kept.trainer_memory.activations, 4 * 5e6);
  EXPECT_DOUBLE_EQ(recomputed.trainer_memory.activations, 4 * 1e6);

  const ResolvedJob single =
      With(With(With(SmallJob(), "train.batch_size=8"), "topology={colocated: 1}"),
           "train.update=single_pass");
  const Prediction once = Of(single, kOne, Inputs());
  const Prediction twice = Of(With(single, "device.gradient_checkpointing=true"), kOne, Inputs());
  EXPECT_DOUBLE_EQ(twice.seconds.steps, once.seconds.steps + 8 * 2 * 1);
  EXPECT_DOUBLE_EQ(twice.rollout_memory.activations, 4 * 1e6);
}

TEST(Predict, ImagesThatDoNotFitTheCacheAreEncodedAgain) {
  PlanInputs inputs = Inputs();
  const auto cached = static_cast<int64_t>(5e8 / (8 * 4));
  inputs.num_images = cached;
  EXPECT_DOUBLE_EQ(Of(SmallJob(), kOne, inputs).seconds.encode, 0);
  inputs.num_images = 4 * cached;
  const Prediction large = Of(SmallJob(), kOne, inputs);
  EXPECT_NEAR(large.seconds.encode, 0.75 * 2, 1e-6);
  EXPECT_NEAR(large.first_pass_encode, 0.25 * 2, 1e-6);
}

TEST(PredictAll, OrdersByTimeAndUsesNoMoreRanksThanTheJobHasWorkFor) {
  const auto all = PredictAll(SmallJob(), 100, Inputs());
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 1u + 4u);  // Colocated, and 1 to 4 trainers: 4 gradient shards.
  for (size_t i = 0; i + 1 < all->size(); ++i) {
    EXPECT_LE((*all)[i].epoch_seconds, 1.02 * (*all)[i + 1].epoch_seconds);
  }
  for (const Prediction& prediction : *all) {
    EXPECT_LE(prediction.topology.rollout, 8);
    EXPECT_LE(prediction.topology.trainer, 4);
    EXPECT_EQ(prediction.idle_ranks, 100 - prediction.topology.ranks());
  }
  EXPECT_EQ(PredictAll(SmallJob(), 1, Inputs())->size(), 1u);
}

TEST(PredictAll, MoreRanksAreNeverSlowerWhereTransfersAreFree) {
  PlanInputs inputs = Inputs();
  inputs.costs.link = {.latency_seconds = 0, .message_seconds = 0, .bytes_per_second = 1e18};
  double before = 1e18;
  for (int ranks = 1; ranks <= 16; ++ranks) {
    const auto all = PredictAll(SmallJob(), ranks, inputs);
    ASSERT_TRUE(all.ok());
    EXPECT_LE(all->front().epoch_seconds, 1.02 * before) << ranks;
    before = all->front().epoch_seconds;
  }
}

TEST(PredictAll, WhatDoesNotFitComesLast) {
  PlanInputs inputs = Inputs();
  inputs.memory_bytes = 25e6;  // A trainer's 24.05 MB, not a colocated rank's 25.2 MB.
  const auto all = PredictAll(SmallJob(), 5, inputs);
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(all->front().fits);
  EXPECT_FALSE(all->back().fits);
  EXPECT_TRUE(all->back().topology.colocated);
}

TEST(PredictAll, RefusesRanksOutOfRange) {
  for (const int ranks : {0, -3, 200'000}) {
    EXPECT_THAT(PredictAll(SmallJob(), ranks, Inputs()).status().message(),
                HasSubstr("it must be from 1 to 100000"));
  }
}

TEST(PredictScaling, AJobThatGrowsKeepsTheRanksBusy) {
  const auto fixed = PredictScaling(SmallJob(), 100, false, Inputs());
  const auto grown = PredictScaling(SmallJob(), 100, true, Inputs());
  ASSERT_TRUE(fixed.ok() && grown.ok());
  ASSERT_EQ(fixed->size(), 7u);  // 1, 2, 5, 10, 20, 50, 100
  EXPECT_EQ(fixed->back().samples_per_epoch, 8);
  EXPECT_EQ(grown->back().samples_per_epoch, 800);
  EXPECT_GT(fixed->back().idle_ranks, 80);
  EXPECT_GT(grown->back().images_per_second(), fixed->back().images_per_second());
  EXPECT_DOUBLE_EQ(grown->front().epoch_seconds, fixed->front().epoch_seconds);
  for (const Prediction& prediction : *grown) {
    EXPECT_EQ(prediction.topology.ranks() + prediction.idle_ranks,
              fixed->at(&prediction - grown->data()).topology.ranks() +
                  fixed->at(&prediction - grown->data()).idle_ranks);
  }
}

TEST(Predict, AReplayInHalfPrecisionKeepsFloat32CopiesOfTheAdaptersInputs) {
  PlanInputs inputs = Inputs();
  inputs.model.unet.adapter_inputs = 3e6;
  inputs.model.unet.recomputed_adapter_inputs = 2e5;
  const auto activations = [&](const ResolvedJob& job) {
    return Of(job, kThreeAndTwo, inputs).trainer_memory.activations;
  };
  EXPECT_DOUBLE_EQ(activations(SmallJob()), 4 * 5e6);
  const ResolvedJob half = With(SmallJob(), "model.precision=bf16");
  EXPECT_DOUBLE_EQ(activations(half), 2 * 5e6 + 4 * 3e6);
  EXPECT_DOUBLE_EQ(activations(With(half, "device.gradient_checkpointing=true")),
                   2 * 1e6 + 4 * 2e5);
}

}  // namespace
}  // namespace imageddpo
