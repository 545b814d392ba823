// Weight decay to the LoRA that a job starts from, through the trainer and a checkpoint.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "tests/testing/judged.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

class InitialTest : public TrainerTest {
 protected:
  /// @param decay  of AdamW, towards the initial LoRA.
  static v1::JobSpec Job(double decay) {
    v1::JobSpec job = SmallJob();
    job.mutable_train()->set_adam_weight_decay(decay);
    job.mutable_train()->set_weight_decay_to("initial");
    return job;
  }
  static Epochs TwoEpochs() {
    return {SampleEpoch(model(), SmallJob(), 0, 0), SampleEpoch(model(), SmallJob(), 1, 1)};
  }
};

TEST_F(InitialTest, AStrongDecayKeepsTheLoraNearItsStart) {
  const Epochs epochs = TwoEpochs();
  const at::Tensor start_P = model().lora.Flatten();
  const double rate = SmallJob().train().learning_rate();
  const Outcome free = Train(1, Job(0), epochs).front();
  const Outcome held = Train(1, Job(0.9 / rate), epochs).front();
  ASSERT_TRUE(held.status.ok()) << held.status;
  const auto moved = [&](const Outcome& outcome) {
    return (outcome.lora_P - start_P).norm().item<double>();
  };
  EXPECT_GT(moved(held), 0);
  EXPECT_LT(moved(held), 0.9 * moved(free)) << "nine tenths of the way back with each update";
  EXPECT_TRUE(held.optimizer.at("initial").equal(start_P));
  EXPECT_FALSE(Train(1, SmallJob(), epochs).front().optimizer.contains("initial"));
  for (const Outcome& outcome : Train(3, Job(0.9 / rate), epochs)) ExpectSameBits(outcome, held);
}

TEST_F(InitialTest, GoesThroughACheckpointWhichMayLackIt) {
  const Epochs epochs = TwoEpochs();
  const v1::JobSpec job = Job(0.5 / SmallJob().train().learning_rate());
  const at::Tensor start_P = model().lora.Flatten();
  const Outcome through = Train(1, job, epochs).front();
  const Outcome first = Train(1, job, {epochs[0]}).front();
  const auto resume = [&](const std::map<std::string, at::Tensor>& optimizer) {
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
  EXPECT_TRUE(resume(first.optimizer).at("initial").equal(start_P));
  EXPECT_TRUE(model().lora.Flatten().equal(through.lora_P));
  std::map<std::string, at::Tensor> lacking = first.optimizer;
  lacking.erase("initial");
  EXPECT_TRUE(resume(lacking).at("initial").equal(first.lora_P)) << "the checkpoint's";
}

}  // namespace
}  // namespace imageddpo
