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

}  // namespace
}  // namespace imageddpo
