// The loss scaling of fp16, tested with float32 tensors, so that it runs on every device: there a
// power of two as scale changes no bit, and the test injects the overflows.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/config/job_config.h"
#include "common/metrics/epoch_metrics.h"
#include "tests/testing/judged.h"
#include "tests/unit/loop/small_policy.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(LossScale, ChangesNoBitOfAReplay) {
  SmallPolicy small(SmallPolicyCase{.model = "demo"});
  const ReplayBatch batch = small.Batch(small.Sample(nullptr));
  const PpoLoss loss;
  ReplayUpdate update(*small.policy, small.lora.Parameters(), loss);
  update.Accumulate(batch, 0.25);
  const at::Tensor expected_P = update.TakeGradient();
  update.SetLossScale(65536);
  update.Accumulate(batch, 0.25);
  const at::Tensor found_P = update.TakeGradient();
  EXPECT_GT(found_P.norm().item<double>(), 0);
  EXPECT_TRUE(found_P.equal(expected_P));
}

TEST(LossScale, ChangesNoBitOfASinglePass) {
  for (const double guidance : {1.0, 7.5}) {
    SmallPolicy small(SmallPolicyCase{.model = "sd1-guided", .guidance = guidance});
    const auto collect = [&](double scale) {
      LogProbGradients collector(small.pipeline.denoiser.get(), small.lora, SmallPolicy::kBatch,
                                 small.inputs.conditioning, small.policy->options().guidance,
                                 scale);
      small.Sample(&collector);
      return collector.Take();
    };
    const at::Tensor found_BP = collect(65536);
    EXPECT_GT(found_BP.norm().item<double>(), 0);
    EXPECT_TRUE(found_BP.equal(collect(1)));
  }
}

TEST(LossScale, AnOverflowOfAReplayTakesNoStep) {
  SmallPolicy small(SmallPolicyCase{.model = "demo"});
  const ReplayBatch batch = small.Batch(small.Sample(nullptr));
  const PpoLoss loss;
  ReplayUpdate update(*small.policy, small.lora.Parameters(), loss);
  AdamW optimizer(small.lora.ParameterNames(), small.lora.Parameters(), AdamWOptions());
  LossScaler scaler(true);
  const std::string before = small.lora.Hash();
  update.SetLossScale(std::exp2(127));
  update.Accumulate(batch, 1);
  double norm = ClipAndStep(update.TakeGradient(), 1, small.lora.Parameters(), &optimizer);
  EXPECT_FALSE(std::isfinite(norm));
  EXPECT_EQ(scaler.Judge(std::isfinite(norm)), LossScaler::Verdict::kSkip);
  EXPECT_EQ(small.lora.Hash(), before);
  update.SetLossScale(scaler.scale());
  update.Accumulate(batch, 1);
  norm = ClipAndStep(update.TakeGradient(), 1, small.lora.Parameters(), &optimizer);
  EXPECT_EQ(scaler.Judge(std::isfinite(norm)), LossScaler::Verdict::kStep);
  EXPECT_NE(small.lora.Hash(), before);
}

/// A trainer that gets the gradients of single passes from the test.
class OneTrainer {
 public:
  explicit OneTrainer(const std::string& precision) {
    job_ = *ParseJobYaml(
        "sample: {num_steps: 6, noise_strength: 0.7, guidance_scale: 1, batch_size: 4, "
        "num_batches_per_epoch: 1}\n"
        "train: {batch_size: 4, update: single_pass}\ndevice: {device_batch_size: 4}\n"
        "topology: {colocated: 1}",
        "job.yaml");
    job_.mutable_model()->set_precision(precision);
    job_ = Judged(job_).spec();
    trainer_.emplace(Judged(job_), *small_.policy, &small_.lora,
                     MakeAdvantageRule(Judged(job_).advantage()), MakeLossRule(Judged(job_)),
                     &exchange_, &gradients_);
  }

  absl::StatusOr<std::vector<v1::EpochMetrics>> Train(int64_t epoch, float first_gradient) {
    constexpr int64_t kSteps = 5;
    const at::Tensor gradients_BP = at::full({4, small_.lora.num_parameters()}, 0.5F);
    gradients_BP[1][2] = first_gradient;
    gradients_.Put(0, gradients_BP);
    TrajectoryBatch batch;
    batch.epoch = batch.weight_version = epoch;
    batch.image_ids = {"a", "b", "c", "d"};
    batch.prompts.resize(4);
    batch.timesteps_BK = at::zeros({4, kSteps}, at::kLong);
    batch.rewards_B = at::arange(4, at::kDouble).pow(2);
    batch.part_names = {"jpeg"};
    batch.parts_BP = batch.rewards_B.unsqueeze(1);
    return trainer_->TrainEpoch(epoch, {batch}, [] { return absl::OkStatus(); });
  }

  Trainer& trainer() { return *trainer_; }
  std::string lora_hash() const { return small_.lora.Hash(); }
  double sampling_scale() const { return gradients_.loss_scale(); }

 private:
  SmallPolicy small_{SmallPolicyCase{.model = "demo"}};
  v1::JobSpec job_;
  SampleGradients gradients_;
  ShardExchange exchange_{nullptr, {0}, 0, ReduceKind::kExact, std::chrono::seconds(1)};
  std::optional<Trainer> trainer_;
};

TEST(LossScale, ATrainerSkipsWhatOverflowsAndGoesOn) {
  OneTrainer one("fp16");
  EXPECT_EQ(one.sampling_scale(), 65536);
  const std::string before = one.lora_hash();
  const auto moments = one.trainer().OptimizerTensors();
  const auto overflown = one.Train(0, kInfinity);
  ASSERT_TRUE(overflown.ok()) << overflown.status();
  EXPECT_EQ(one.lora_hash(), before);
  for (const auto& [name, tensor] : one.trainer().OptimizerTensors()) {
    EXPECT_TRUE(tensor.equal(moments.at(name))) << name;
  }
  const nlohmann::json row = nlohmann::json::parse(RowOf(overflown->front()).dump());
  EXPECT_EQ(row.at("skipped"), true);
  EXPECT_EQ(row.at("loss_scale"), 32768);
  EXPECT_EQ(row.at("skipped_updates"), 1);
  EXPECT_EQ(row.at("grad_norm"), 0);
  EXPECT_EQ(one.sampling_scale(), 32768);

  const auto good = one.Train(1, 0.5F);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_NE(one.lora_hash(), before);
  EXPECT_FALSE(good->front().skipped());
  EXPECT_GT(good->front().grad_norm(), 0);
}

TEST(LossScale, IsPartOfACheckpoint) {
  OneTrainer one("fp16");
  ASSERT_TRUE(one.Train(0, kInfinity).ok());
  OneTrainer resumed("fp16");
  const auto state = nlohmann::json::parse(one.trainer().StateJson().dump());
  ASSERT_TRUE(resumed.trainer().Restore(one.trainer().OptimizerTensors(), state).ok());
  EXPECT_EQ(resumed.sampling_scale(), 32768);
  EXPECT_EQ(resumed.trainer().state().loss_scaler.skipped(), 1);
  EXPECT_FALSE(OneTrainer("fp32").trainer().StateJson().contains("loss_scaling"));
}

TEST(LossScale, WithoutOneAnOverflowEndsTheJob) {
  OneTrainer one("fp32");
  EXPECT_EQ(one.sampling_scale(), 1);
  const std::string before = one.lora_hash();
  const auto rows = one.Train(0, kInfinity);
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr("not finite"));
  EXPECT_EQ(one.lora_hash(), before);
}

TEST(LossScale, AJobWhoseEveryUpdateOverflowsEnds) {
  OneTrainer one("fp16");
  int epoch = 0;
  while (epoch < 100 && one.Train(epoch, kInfinity).ok()) ++epoch;
  EXPECT_EQ(epoch, 16);
}

}  // namespace
}  // namespace imageddpo
