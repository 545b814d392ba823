// Jobs that are one evaluation, and the LoRA of a job's best evaluation, over gRPC.
#include <filesystem>

#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::IsEmpty;

class EvaluationsTest : public ServiceTest {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(EvaluationsTest, AJobWithoutEpochsIsAnEvaluation) {
  v1::JobSpec spec = JobOf(0);
  spec.mutable_data()->clear_path();
  spec.mutable_eval()->set_path("images");
  spec.clear_rewards();
  const v1::Job job = WaitFor(MustSubmit(spec).id(), v1::SUCCEEDED);
  EXPECT_EQ(job.topology(), "colocated 1");
  EXPECT_EQ(job.progress().num_epochs(), 0);
  EXPECT_EQ(job.progress().seconds_left(), -1);
  EXPECT_EQ(job.lora_path(), "");
  EXPECT_THAT(job.warnings(), IsEmpty());
  EXPECT_FALSE(job.spec().data().has_path());
  EXPECT_EQ(ReadJobFile(job.id(), "eval/epoch-000000.jsonl"), "{\"id\": \"a\"}\n{\"id\": \"b\"}\n");
  int evaluations = 0;
  for (const v1::JobEvent& event : Watch(job.id(), 1)) evaluations += event.has_eval() ? 1 : 0;
  EXPECT_EQ(evaluations, 1);
}

TEST_F(EvaluationsTest, TheLoraOfTheBestEvaluationIsKept) {
  v1::JobSpec spec = JobOf(3);
  spec.mutable_eval()->set_path("images");
  spec.mutable_checkpoint()->set_keep(1);
  spec.mutable_checkpoint()->set_best("reward");  // The worker's is the number of epochs.
  const v1::Job most = WaitFor(MustSubmit(spec).id(), v1::SUCCEEDED);
  EXPECT_EQ(most.best_epoch(), 3);
  EXPECT_EQ(most.best_value(), 3);
  EXPECT_EQ(most.best_lora_path(), most.output_dir() +
                                       "/checkpoints/best-epoch-000003/"
                                       "pytorch_lora_weights.safetensors");
  spec.mutable_checkpoint()->set_best_mode("min");
  const v1::Job least = WaitFor(MustSubmit(spec).id(), v1::SUCCEEDED);
  EXPECT_EQ(least.best_epoch(), 0);
  EXPECT_EQ(least.best_value(), 0);
  EXPECT_EQ(ReadJobFile(least.id(),
                        "checkpoints/best-epoch-000000/"
                        "pytorch_lora_weights.safetensors"),
            "LoRA of seed 42 after 0 epochs");
  EXPECT_FALSE(std::filesystem::exists(least.output_dir() + "/checkpoints/best-epoch-000003"));
}

TEST_F(EvaluationsTest, TheBestOutlivesACrash) {
  v1::JobSpec spec = JobOf(4);
  spec.mutable_eval()->set_path("images");
  spec.mutable_checkpoint()->set_best("reward");
  spec.mutable_checkpoint()->set_best_mode("min");
  script_.epochs_allowed = 2;
  const std::string id = MustSubmit(spec).id();
  WaitForEpoch(id, 2);
  Crash();
  script_.epochs_allowed = 100;
  Start();
  const v1::Job job = WaitFor(id, v1::SUCCEEDED);
  EXPECT_EQ(job.resume_count(), 1);
  EXPECT_EQ(job.best_epoch(), 0);
  EXPECT_TRUE(std::filesystem::exists(job.best_lora_path()));
}

}  // namespace
}  // namespace imageddpo
