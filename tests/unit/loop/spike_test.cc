// Gradient spikes through the trainer, whose single passes get their gradients from the test.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/judged.h"
#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

/// A trainer with an update an epoch, and the gradients of that update.
class SpikingTrainer {
 public:
  explicit SpikingTrainer(SmallModel* model) : model_(model) {
    job_ = SmallJob();
    job_.mutable_train()->set_update("single_pass");
    job_.mutable_train()->set_max_grad_zscore(4);
    job_.mutable_train()->set_ema_decay(0.5);
    job_.mutable_topology()->set_colocated(1);
    policy_.emplace(model->MakePolicy(job_));
    trainer_.emplace(Judged(job_), *policy_, &model->lora,
                     MakeAdvantageRule(Judged(job_).advantage()), MakeLossRule(Judged(job_)),
                     &exchange_, &gradients_);
    batches_ = SampleEpoch(*model, job_, 0, 0);
  }

  /// @param size  of the gradient; that of an epoch otherwise differs a little from the last one's.
  v1::EpochMetrics Train(double size) {
    const int64_t epoch = trainer_->state().epochs_trained;
    for (TrajectoryBatch& batch : batches_) {
      batch.epoch = batch.weight_version = epoch;
      gradients_.Put(batch.micro_batch,
                     KeyedNormal({.seed = 5, .sample = static_cast<uint64_t>(batch.micro_batch)},
                                 {batch.batch_size(), model_->lora.num_parameters()})
                         .mul_(size * (1 + 0.01 * static_cast<double>(epoch % 3))));
    }
    const auto rows = trainer_->TrainEpoch(epoch, batches_, [] { return absl::OkStatus(); });
    EXPECT_TRUE(rows.ok()) << rows.status();
    return rows->front();
  }
  Trainer& trainer() { return *trainer_; }

 private:
  SmallModel* model_;
  v1::JobSpec job_;
  std::optional<Policy> policy_;
  SampleGradients gradients_;
  ShardExchange exchange_{nullptr, {0}, 0, ReduceKind::kExact, std::chrono::seconds(1)};
  std::optional<Trainer> trainer_;
  std::vector<TrajectoryBatch> batches_;
};

using SpikeTest = TrainerTest;

TEST_F(SpikeTest, AreSkippedCountedAndRemembered) {
  SpikingTrainer one(&model());
  for (int i = 0; i < 16; ++i) EXPECT_FALSE(one.Train(0.01).skipped());
  const std::string before = model().lora.Hash();
  const auto tensors = one.trainer().OptimizerTensors();
  const v1::EpochMetrics spike = one.Train(1);
  EXPECT_TRUE(spike.skipped());
  EXPECT_EQ(spike.skipped_updates(), 1);
  EXPECT_GT(spike.grad_norm(), 0) << "it is told";
  EXPECT_FALSE(spike.has_loss_scale()) << "that is fp16's";
  EXPECT_EQ(model().lora.Hash(), before);
  for (const auto& [name, tensor] : one.trainer().OptimizerTensors()) {
    EXPECT_TRUE(tensor.equal(tensors.at(name))) << name;
  }

  const auto state = nlohmann::json::parse(one.trainer().StateJson().dump());
  SmallModel other;
  other.lora.CopyFrom(model().lora);
  SpikingTrainer resumed(&other);
  const absl::Status restored = resumed.trainer().Restore(one.trainer().OptimizerTensors(), state);
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_TRUE(resumed.Train(1).skipped());
  EXPECT_TRUE(one.Train(1).skipped());
  EXPECT_EQ(resumed.Train(0.01).skipped_updates(), 2);
  EXPECT_FALSE(one.Train(0.01).skipped());
  EXPECT_EQ(other.lora.Hash(), model().lora.Hash());
  EXPECT_EQ(resumed.trainer().StateJson().dump(), one.trainer().StateJson().dump());
}

}  // namespace
}  // namespace imageddpo
