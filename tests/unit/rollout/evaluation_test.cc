// How held-out images are sampled: settings of their own, and several seeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

using EvaluationTest = RolloutFixture;

// The held-out images are sampled as `eval` says, whatever training does.
TEST_F(EvaluationTest, EvaluationHasStepsGuidanceAndEtaOfItsOwn) {
  const auto evaluate = [this] {
    Pipeline pipeline = LoadModel();
    const auto batch = Scored(Make(&pipeline)->Evaluate(0, 0));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return batch->SerializeAsString();
  };
  const std::string as_training = evaluate();
  const v1::JobSpec before = job_;
  for (const auto& change : std::vector<std::function<void(v1::EvalSpec*)>>{
           [](v1::EvalSpec* eval) { eval->set_num_steps(8); },
           [](v1::EvalSpec* eval) { eval->set_noise_strength(0.8); },
           [](v1::EvalSpec* eval) { eval->set_guidance_scale(1); },
           [](v1::EvalSpec* eval) { eval->set_eta(0); },
           [](v1::EvalSpec* eval) { eval->set_seed(eval->seed() + 1); }}) {
    job_ = before;
    change(job_.mutable_eval());
    EXPECT_NE(evaluate(), as_training);
  }
  job_ = before;
  v1::SampleSpec& sample = *job_.mutable_sample();
  sample.set_num_steps(6);
  sample.set_noise_strength(0.9);
  sample.set_guidance_scale(1);
  sample.set_eta(0.5);
  EXPECT_EQ(evaluate(), as_training);
}

TEST_F(EvaluationTest, SeedsOfAnEvaluationFollowEachOther) {
  job_.mutable_eval()->set_num_seeds(2);
  job_.mutable_eval()->set_batch_size(4);
  Pipeline pipeline = LoadModel();
  const std::unique_ptr<Rollout> rollout = Make(&pipeline);
  EXPECT_EQ(rollout->num_eval_images(), 4);
  ASSERT_EQ(rollout->num_eval_batches(), 2);
  const auto first = Scored(rollout->Evaluate(0, 0)), second = Scored(rollout->Evaluate(1, 0));
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ(second->first_sample(), 4);
  EXPECT_EQ(second->image_ids(0), first->image_ids(0));
  EXPECT_EQ(second->pictures_size(), 0);
  EXPECT_EQ(first->pictures_size(), 8);

  job_.mutable_eval()->set_num_seeds(1);
  job_.mutable_eval()->set_seed(job_.eval().seed() + 1);
  Pipeline other = LoadModel();
  const auto alone = Scored(Make(&other)->Evaluate(0, 0));
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_THAT(second->rewards(), testing::ElementsAreArray(alone->rewards()));
  EXPECT_THAT(second->rewards(), testing::Not(testing::ElementsAreArray(first->rewards())));
}

TEST_F(EvaluationTest, WithoutEpochsTheSamplesAreTheSameAndNothingElseIsRead) {
  const auto evaluate = [this] {
    Pipeline pipeline = LoadModel();
    const std::unique_ptr<Rollout> rollout = Make(&pipeline);
    EXPECT_EQ(rollout->data_report().num_images(), job_.num_epochs() == 0 ? 0 : 6);
    const auto batch = Scored(rollout->Evaluate(0, 0));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *batch;
  };
  const v1::EvalBatch as_in_training = evaluate();
  const std::vector<std::string> known = EvalMeasures(job_);
  EXPECT_EQ(std::vector<std::string>(as_in_training.part_names().begin(),
                                     as_in_training.part_names().end()),
            (std::vector<std::string>{"jpeg.bytes", "jpeg.value"}));
  for (const std::string& part : as_in_training.part_names()) {
    EXPECT_THAT(known, ::testing::Contains(part)) << "the settings tell what there is";
  }
  job_.set_num_epochs(0);
  job_.mutable_data()->set_path(dir_ / "nothing");
  EXPECT_EQ(evaluate().SerializeAsString(), as_in_training.SerializeAsString());

  job_.clear_rewards();
  const absl::StatusOr<ResolvedJob> bare = ResolvedJob::Make(job_);
  ASSERT_TRUE(bare.ok()) << bare.status();
  Pipeline pipeline = LoadModel();
  const auto rollout =
      Rollout::Create(*bare, &pipeline, *MakeJobReward(*bare, at::kCPU), at::kCPU, {});
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  const auto without = Scored((*rollout)->Evaluate(0, 0));
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ(without->pictures(1).data(), as_in_training.pictures(1).data());
  EXPECT_EQ(without->rewards(0), 0);
  EXPECT_EQ(without->parts_size(), 0);
}

TEST_F(EvaluationTest, SingleFilesAreTakenInTheirOrder) {
  job_.set_num_epochs(0);
  job_.mutable_eval()->clear_path();
  job_.mutable_eval()->add_files(dir_ / "held-out/9.png");
  job_.mutable_eval()->add_files(dir_ / "data/0.png");
  Pipeline pipeline = LoadModel();
  const std::unique_ptr<Rollout> rollout = Make(&pipeline);
  EXPECT_EQ(rollout->num_eval_images(), 2);
  const auto batch = Scored(rollout->Evaluate(0, 0));
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->image_ids(0), dir_ / "held-out/9.png");
  EXPECT_EQ(batch->image_ids(1), dir_ / "data/0.png");
}

}  // namespace
}  // namespace imageddpo
