// Updates from some of a trajectory's steps, and from noised target images: their gradients against
// a direct computation.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

/// 4 of 8 steps are executed.
v1::JobSpec StepJob() {
  v1::JobSpec job = SmallJob();
  job.mutable_sample()->set_num_steps(8);
  job.mutable_train()->set_step_fraction(0.5);
  job.mutable_train()->set_max_grad_norm(1e12);
  return job;
}

/// The record as a rollout makes it that trains only these steps, ascending.
TrajectoryBatch Keep(const TrajectoryBatch& whole, const std::vector<int64_t>& steps) {
  TrajectoryBatch batch = whole;
  const at::Tensor index = at::tensor(steps, at::kLong);
  batch.timesteps_BK = whole.timesteps_BK.index_select(1, index);
  batch.log_probs_BK = whole.log_probs_BK.index_select(1, index);
  std::vector<at::Tensor> latents;
  for (const int64_t k : steps) {
    batch.latent_of_step.push_back(static_cast<int64_t>(latents.size()));
    latents.push_back(whole.latents.select(1, k));
    latents.push_back(whole.latents.select(1, k + 1));
  }
  batch.latents = at::stack(latents, 1);
  return batch;
}

class StepsTest : public TrainerTest {
 protected:
  /// Of the mean over all samples and these steps, float64, at ratio 1.
  static at::Tensor GradientOf(const std::vector<TrajectoryBatch>& batches,
                               const std::vector<int64_t>& steps) {
    std::vector<double> rewards;
    for (const TrajectoryBatch& batch : batches) {
      for (int64_t i = 0; i < 2; ++i) rewards.push_back(batch.rewards_B[i].item<double>());
    }
    double mean = 0, square = 0;
    for (const double r : rewards) mean += r / 10;
    for (const double r : rewards) square += (r - mean) * (r - mean) / 10;
    const Policy policy = model().MakePolicy(StepJob());
    for (const TrajectoryBatch& batch : batches) {
      std::vector<at::Tensor> negatives(2, batch.new_embeddings.at(batch.keys.negative_hash));
      StepConditioning conditioning = policy.Prepare(
          {.negative_embeds_BLD = at::stack(negatives), .same_tokens_B = batch.keys.same_tokens});
      for (const int64_t k : steps) {
        const StepResult step = policy.Replay(
            batch.latents.select(1, k).contiguous(), batch.timesteps_BK.select(1, k).contiguous(),
            conditioning, batch.latents.select(1, k + 1).contiguous());
        at::Tensor loss = at::zeros({});
        for (int64_t i = 0; i < 2; ++i) {
          const double reward = rewards[static_cast<size_t>(batch.first_sample + i)];
          const double advantage = std::clamp((reward - mean) / std::sqrt(square), -1.0, 1.0);
          loss = loss - step.log_prob_B[i] * advantage;
        }
        (loss / (10.0 * static_cast<double>(steps.size()))).backward();
      }
      conditioning.text.Backward();
    }
    std::vector<at::Tensor> flat;
    for (at::Tensor& parameter : model().lora.Parameters()) {
      flat.push_back(parameter.grad().reshape({-1}).to(at::kDouble));
      parameter.mutable_grad() = at::Tensor();
    }
    return at::cat(flat);
  }
};

TEST_F(StepsTest, TheGradientIsThatOfTheMeanOverTheTrainedSteps) {
  Reset();
  const std::vector<TrajectoryBatch> whole = SampleEpoch(model(), StepJob(), 0, 0);
  ASSERT_EQ(whole.front().timesteps_BK.size(1), 4);
  for (const std::vector<int64_t>& steps :
       {std::vector<int64_t>{0, 2}, std::vector<int64_t>{1, 2}, std::vector<int64_t>{1}}) {
    Reset();
    const at::Tensor expected_P = GradientOf(whole, steps);
    Epochs epochs(1);
    for (const TrajectoryBatch& batch : whole) epochs[0].push_back(Keep(batch, steps));
    const Outcome alone = Train(1, StepJob(), epochs).front();
    ASSERT_TRUE(alone.status.ok()) << alone.status;
    EXPECT_EQ(alone.rows[0].ratio_first_step_max_error(), 0) << "a replay repeats the rollout";
    const at::Tensor found_P =
        alone.Moment("m", model().lora) / (1 - StepJob().train().adam_beta1());
    EXPECT_GT(expected_P.norm().item<double>(), 0);
    EXPECT_LT((found_P - expected_P).norm().item<double>(), 1e-4 * expected_P.norm().item<double>())
        << steps.front();
    for (const Outcome& outcome : Train(3, StepJob(), epochs)) ExpectSameBits(outcome, alone);
  }
}

/// Records of noised targets, as a rollout rank makes them: one step, without rewards.
std::vector<TrajectoryBatch> Targets(const std::vector<TrajectoryBatch>& sampled) {
  std::vector<TrajectoryBatch> batches;
  for (const TrajectoryBatch& like : sampled) {
    TrajectoryBatch batch = like;
    batch.part_names.clear();
    batch.parts_BP = at::zeros({2, 0}, at::kDouble);
    batch.rewards_B = at::zeros({2}, at::kDouble);
    batch.log_probs_BK = at::zeros({2, 1});
    batch.timesteps_BK = at::tensor({401 - 10 * like.micro_batch, 301L}, at::kLong).view({2, 1});
    batch.latents = like.latents.narrow(1, 1, 2).contiguous();
    batches.push_back(std::move(batch));
  }
  return batches;
}

v1::JobSpec SupervisedJob(double guidance) {
  v1::JobSpec job = SmallJob();
  job.mutable_train()->set_objective("sft");
  job.mutable_train()->set_max_grad_norm(1e12);
  job.mutable_sample()->set_guidance_scale(guidance);
  return job;
}

TEST_F(StepsTest, SupervisedTrainingDescendsTheErrorOfThePrediction) {
  for (const double guidance : {1.0, 3.0}) {
    const v1::JobSpec job = SupervisedJob(guidance);
    Reset();
    const std::vector<TrajectoryBatch> batches = Targets(SampleEpoch(model(), SmallJob(), 0, 0));
    double loss = 0;
    for (const TrajectoryBatch& batch : batches) {
      std::vector<at::Tensor> texts;
      for (const uint64_t hash : batch.keys.prompt_hashes) {
        texts.push_back(batch.new_embeddings.at(guidance > 1 ? hash : batch.keys.negative_hash));
      }
      const at::Tensor prediction = model().pipeline.denoiser->Forward(
          batch.latents.select(1, 0).contiguous(), batch.timesteps_BK.select(1, 0).contiguous(),
          at::stack(texts));
      const at::Tensor error = (prediction - batch.latents.select(1, 1)).pow(2).mean() / 5;
      error.backward();
      loss += error.item<double>();
    }
    std::vector<at::Tensor> flat;
    for (at::Tensor& parameter : model().lora.Parameters()) {
      flat.push_back(parameter.grad().reshape({-1}).to(at::kDouble));
      parameter.mutable_grad() = at::Tensor();
    }
    const at::Tensor expected_P = at::cat(flat);

    const Outcome alone = Train(1, job, {batches}).front();
    ASSERT_TRUE(alone.status.ok()) << alone.status;
    EXPECT_NEAR(alone.rows[0].sft_loss(), loss, 1e-5 * loss);
    EXPECT_EQ(alone.rows[0].loss(), alone.rows[0].sft_loss());
    EXPECT_EQ(alone.rows[0].reward_mean(), 0);
    const at::Tensor found_P = alone.Moment("m", model().lora) / (1 - job.train().adam_beta1());
    EXPECT_LT((found_P - expected_P).norm().item<double>(), 1e-4 * expected_P.norm().item<double>())
        << guidance;
    for (const Outcome& outcome : Train(3, job, {batches})) ExpectSameBits(outcome, alone);
  }
}

}  // namespace
}  // namespace imageddpo
