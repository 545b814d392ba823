// The moving average of the LoRA through the trainer: what it is, and its way through a checkpoint.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/io/safetensors.h"
#include "tests/testing/judged.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

v1::JobSpec Job() {
  v1::JobSpec job = SmallJob();
  job.mutable_train()->set_ema_decay(0.9);
  return job;
}

class AverageTest : public TrainerTest {
 protected:
  static Epochs TwoEpochs() {
    return {SampleEpoch(model(), SmallJob(), 0, 0), SampleEpoch(model(), SmallJob(), 1, 1)};
  }
};

TEST_F(AverageTest, FollowsTheLoraAndChangesNothingElse) {
  const Epochs epochs = TwoEpochs();
  const at::Tensor start_P = model().lora.Flatten();
  const Outcome first = Train(1, SmallJob(), {epochs[0]}).front();
  const Outcome without = Train(1, SmallJob(), epochs).front();
  const Outcome with = Train(1, Job(), epochs).front();
  ASSERT_TRUE(with.status.ok()) << with.status;
  EXPECT_TRUE(with.lora_P.equal(without.lora_P));
  EXPECT_FALSE(without.optimizer.contains("ema"));
  const at::Tensor expected_P = 0.81 * start_P + 0.09 * first.lora_P + 0.1 * with.lora_P;
  EXPECT_TRUE(at::allclose(with.optimizer.at("ema"), expected_P, 1e-5, 1e-7));
  for (const Outcome& outcome : Train(3, Job(), epochs)) ExpectSameBits(outcome, with);

  v1::JobSpec warm = Job();
  warm.mutable_train()->set_ema_warmup_updates(2);
  const Outcome copied = Train(1, warm, epochs).front();
  EXPECT_TRUE(copied.optimizer.at("ema").equal(copied.lora_P));
}

TEST_F(AverageTest, GoesThroughACheckpointWhichMayLackIt) {
  const Epochs epochs = TwoEpochs();
  const Outcome through = Train(1, Job(), epochs).front();
  const Outcome first = Train(1, Job(), {epochs[0]}).front();
  const auto resume = [&](const v1::JobSpec& job, std::map<std::string, at::Tensor> optimizer) {
    model().lora.Unflatten(first.lora_P);
    const Policy policy = model().MakePolicy(job);
    ShardExchange exchange(nullptr, {0}, 0, ReduceKind::kExact, std::chrono::seconds(1));
    Trainer trainer(Judged(job), policy, &model().lora, MakeAdvantageRule(Judged(job).advantage()),
                    MakeLossRule(Judged(job)), &exchange);
    const absl::Status restored = trainer.Restore(optimizer, nlohmann::json::parse(first.state));
    EXPECT_TRUE(restored.ok()) << restored;
    std::vector<v1::EpochMetrics> rows;
    EXPECT_TRUE(TrainEpoch(trainer, 0, 1, epochs[1], absl::OkStatus, &rows).ok());
    return trainer.OptimizerTensors();
  };
  EXPECT_TRUE(resume(Job(), first.optimizer).at("ema").equal(through.optimizer.at("ema")));
  EXPECT_FALSE(resume(SmallJob(), first.optimizer).contains("ema"));
  std::map<std::string, at::Tensor> lacking = first.optimizer;
  lacking.erase("ema");
  const at::Tensor expected_P = 0.9 * first.lora_P + 0.1 * through.lora_P;
  EXPECT_TRUE(at::allclose(resume(Job(), lacking).at("ema"), expected_P, 1e-5, 1e-7))
      << "it starts from the LoRA";
}

TEST(AverageFile, IsALoraBesideTheLora) {
  SmallGang gang(Job());
  gang.rollout.Send(gang.Sample(0, 0));
  ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());
  ASSERT_TRUE(gang.leader.rank->SendCheckpoint().ok());
  const v1::Checkpoint& checkpoint = gang.leader.reports.back().checkpoint();
  const auto average = ParseSafetensors(checkpoint.ema_lora(), "average");
  ASSERT_TRUE(average.ok()) << average.status();
  const auto lora = gang.leader.model.lora.ToTensors();
  ASSERT_EQ(average->size(), lora.size());
  bool differs = false;
  for (const auto& [name, tensor] : lora) {
    EXPECT_EQ(average->at(name).sizes(), tensor.sizes());
    differs = differs || !average->at(name).equal(tensor);
  }
  EXPECT_TRUE(differs);
  SmallGang without(SmallJob());
  without.rollout.Send(without.Sample(0, 0));
  ASSERT_TRUE(without.leader.rank->TrainEpoch(0).ok());
  ASSERT_TRUE(without.leader.rank->SendCheckpoint().ok());
  EXPECT_TRUE(without.leader.reports.back().checkpoint().ema_lora().empty());
}

}  // namespace
}  // namespace imageddpo
