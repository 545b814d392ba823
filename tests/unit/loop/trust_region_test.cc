// Divergences of steps through the trainer: the mask of `train.trust_region: kl`, the term of
// `train.kl_coef`, and what the rows say of both, against a direct computation.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/loop/small_job.h"
#include "tests/unit/loop/trainer_fixture.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

v1::JobSpec KlJob(double kl_limit, int64_t num_inner_epochs) {
  v1::JobSpec job = SmallJob();
  v1::TrainSpec& train = *job.mutable_train();
  train.set_trust_region("kl");
  train.set_kl_limit(kl_limit);
  train.set_num_inner_epochs(num_inner_epochs);
  train.set_learning_rate(1e-4);
  return job;
}

v1::JobSpec BaseJob(double kl_coef) {
  v1::JobSpec job = SmallJob();
  job.mutable_train()->set_kl_coef(kl_coef);
  job.mutable_train()->set_max_grad_norm(1e12);
  return job;
}

Conditioning ConditioningOf(const TrajectoryBatch& batch) {
  std::vector<at::Tensor> prompts, negatives;
  for (const uint64_t hash : batch.keys.prompt_hashes) {
    prompts.push_back(batch.new_embeddings.at(hash));
    negatives.push_back(batch.new_embeddings.at(batch.keys.negative_hash));
  }
  return {.prompt_embeds_BLD = at::stack(prompts),
          .negative_embeds_BLD = at::stack(negatives),
          .same_tokens_B = batch.keys.same_tokens};
}

/// A recorded step under the model's LoRA of now.
StepResult Replay(const SmallModel& model, const v1::JobSpec& job, const TrajectoryBatch& batch,
                  int64_t k) {
  const Policy policy = model.MakePolicy(job);
  return policy.Replay(
      batch.latents.select(1, k).contiguous(), batch.timesteps_BK.select(1, k).contiguous(),
      policy.Prepare(ConditioningOf(batch)), batch.latents.select(1, k + 1).contiguous());
}

/// [B] in double, with graph where `mean_BCHW` has one.
at::Tensor KlByHand(const at::Tensor& mean_BCHW, const at::Tensor& other_BCHW,
                    const at::Tensor& sigma_B) {
  std::vector<at::Tensor> kl;
  for (int64_t i = 0; i < sigma_B.numel(); ++i) {
    const auto sigma = sigma_B[i].item<double>();
    const at::Tensor square =
        (mean_BCHW[i].to(at::kDouble) - other_BCHW[i].to(at::kDouble)).pow(2).sum();
    kl.push_back(sigma > 0 ? square / (2 * sigma * sigma) : square * 0);
  }
  return at::stack(kl);
}

class TrustRegionTest : public TrainerTest {
 protected:
  static Epochs OneEpoch(const v1::JobSpec& job) {
    Reset();
    return {SampleEpoch(model(), job, 0, 0)};
  }

  static double Mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }
};

TEST_F(TrustRegionTest, StepsThatMoveFurtherAwayBeyondTheLimitAreMaskedAndCounted) {
  const Epochs epochs = OneEpoch(KlJob(1, 1));
  // What the second pass finds: the LoRA after the first update.
  ASSERT_TRUE(Train(1, KlJob(1, 1), epochs).front().status.ok());
  double mean_reward = 0;
  for (const TrajectoryBatch& batch : epochs[0]) {
    mean_reward += batch.rewards_B.sum().item<double>() / 10;
  }
  std::vector<double> kls;
  std::vector<bool> moves_away;
  for (const TrajectoryBatch& batch : epochs[0]) {
    const at::NoGradGuard no_grad;
    for (int64_t k = 0; k < batch.timesteps_BK.size(1); ++k) {
      const StepResult step = Replay(model(), KlJob(1, 1), batch, k);
      const at::Tensor kl_B = KlByHand(step.mean_BCHW, batch.means.select(1, k), step.sigma_B);
      for (int64_t i = 0; i < batch.batch_size(); ++i) {
        kls.push_back(kl_B[i].item<double>());
        const double change = (step.log_prob_B[i] - batch.log_probs_BK[i][k]).item<double>();
        moves_away.push_back(change * (batch.rewards_B[i].item<double>() - mean_reward) > 0);
      }
    }
  }
  // A limit that some of the steps that move away are beyond, far from each of them.
  std::vector<double> of_those;
  for (size_t i = 0; i < kls.size(); ++i) {
    if (moves_away[i] && kls[i] > 0) of_those.push_back(kls[i]);
  }
  ASSERT_GE(of_those.size(), 2U);
  std::sort(of_those.begin(), of_those.end());
  size_t gap = 1;
  for (size_t i = 1; i < of_those.size(); ++i) {
    if (of_those[i] - of_those[i - 1] > of_those[gap] - of_those[gap - 1]) gap = i;
  }
  const double limit = (of_those[gap - 1] + of_those[gap]) / 2;
  const auto masked = static_cast<double>(of_those.size() - gap);

  const Outcome outcome = Train(1, KlJob(limit, 2), epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.rows.size(), 2U);
  EXPECT_EQ(outcome.rows[0].kl_step_mean(), 0) << "a replay repeats the rollout's means";
  EXPECT_EQ(outcome.rows[0].kl_step_max(), 0);
  EXPECT_EQ(outcome.rows[0].masked_fraction(), 0);
  EXPECT_FALSE(outcome.rows[0].has_kl_to_base());
  const double largest = *std::max_element(kls.begin(), kls.end());
  EXPECT_NEAR(outcome.rows[1].kl_step_mean(), Mean(kls), 1e-3 * Mean(kls));
  EXPECT_NEAR(outcome.rows[1].kl_step_max(), largest, 1e-3 * largest);
  EXPECT_NEAR(outcome.rows[1].masked_fraction(), masked / static_cast<double>(kls.size()), 1e-9);
}

TEST_F(TrustRegionTest, ALimitBeyondReachLeavesTheLossWithoutAClip) {
  const v1::JobSpec masked = KlJob(1e9, 2);
  v1::JobSpec clipped = KlJob(1e9, 2);
  clipped.mutable_train()->set_trust_region("ratio");
  clipped.mutable_train()->set_clip_range(0.9);
  const Outcome ratio = Train(1, clipped, OneEpoch(clipped)).front();
  const Outcome kl = Train(1, masked, OneEpoch(masked)).front();
  ASSERT_TRUE(kl.status.ok() && ratio.status.ok()) << kl.status << ratio.status;
  EXPECT_EQ(ratio.rows[1].clipfrac(), 0);
  EXPECT_EQ(kl.rows[1].masked_fraction(), 0);
  EXPECT_GT(kl.rows[1].kl_step_mean(), 0);
  EXPECT_FALSE(ratio.rows[1].has_kl_step_mean());
  EXPECT_EQ(kl.rows[1].loss(), ratio.rows[1].loss());
  EXPECT_TRUE(kl.lora_P.equal(ratio.lora_P));

  const Outcome tight = Train(1, KlJob(1e-12, 2), OneEpoch(masked)).front();
  EXPECT_GT(tight.rows[1].masked_fraction(), 0);
  EXPECT_FALSE(tight.lora_P.equal(kl.lora_P)) << "the mask keeps steps from the gradient";
}

TEST_F(TrustRegionTest, TheSameBitsOnAnyNumberOfRanksFreshAndStale) {
  for (const int64_t staleness : {0, 1}) {
    v1::JobSpec job = KlJob(1e-6, 2);
    job.mutable_train()->set_kl_coef(0.01);
    // Two updates of three micro-batches: the second pass brings them in another order.
    job.mutable_sample()->set_batch_size(12);
    job.mutable_train()->set_batch_size(6);
    job.mutable_train()->set_gradient_shards(3);
    job.mutable_sample()->set_guidance_scale(3);
    job.mutable_sample()->set_max_staleness(staleness);
    Reset();
    const Epochs epochs = {SampleEpoch(model(), job, 0, 0),
                           SampleEpoch(model(), job, 1, 1 - staleness)};
    const Outcome alone = Train(1, job, epochs).front();
    ASSERT_TRUE(alone.status.ok()) << alone.status;
    for (const int ranks : {2, 3}) {
      for (const Outcome& outcome : Train(ranks, job, epochs)) ExpectSameBits(outcome, alone);
    }
    ASSERT_EQ(alone.rows.size(), 8U);
    const v1::EpochMetrics& second = alone.rows[4];
    EXPECT_EQ(second.epoch(), 1);
    EXPECT_GT(second.kl_step_mean(), 0) << "the samples are not of the weights that are trained";
    EXPECT_GE(second.kl_step_max(), second.kl_step_mean());
    EXPECT_GT(second.kl_to_base(), 0);
  }
}

/// Means and gradient of the divergence from the base over all samples and steps.
struct FromBase {
  std::vector<double> kl_of_samples;  ///< Of each sample the mean over its steps.
  at::Tensor gradient_P;              ///< Of the mean over all, float64.
};

FromBase CompareWithBase(SmallModel* model, const v1::JobSpec& job,
                         const std::vector<TrajectoryBatch>& batches) {
  const StepRule& rule = *model->pipeline.step_rule;
  const auto step = [&](const TrajectoryBatch& batch, int64_t k) {
    const at::Tensor latents = batch.latents.select(1, k).contiguous();
    const at::Tensor timesteps = batch.timesteps_BK.select(1, k).contiguous();
    const at::Tensor prediction = model->pipeline.denoiser->Forward(
        latents, timesteps, ConditioningOf(batch).negative_embeds_BLD);
    return rule.Step(prediction, timesteps, latents, job.sample().num_steps(), job.sample().eta(),
                     {}, batch.latents.select(1, k + 1).contiguous());
  };
  std::vector<at::Tensor> base;
  model->pipeline.denoiser->UnbindLora();
  for (const TrajectoryBatch& batch : batches) {
    for (int64_t k = 0; k < batch.timesteps_BK.size(1); ++k) {
      base.push_back(step(batch, k).mean_BCHW.detach());
    }
  }
  EXPECT_TRUE(model->pipeline.denoiser->BindLora(model->lora).ok());
  FromBase found;
  size_t next = 0;
  const auto num_samples = static_cast<double>(2 * batches.size());
  for (const TrajectoryBatch& batch : batches) {
    const int64_t num_steps = batch.timesteps_BK.size(1);
    at::Tensor of_batch = at::zeros({batch.batch_size()}, at::kDouble);
    for (int64_t k = 0; k < num_steps; ++k, ++next) {
      const StepResult now = step(batch, k);
      const at::Tensor kl_B =
          KlByHand(now.mean_BCHW, base[next], now.sigma_B) / static_cast<double>(num_steps);
      (kl_B.sum() / num_samples).backward();
      of_batch += kl_B.detach();
    }
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      found.kl_of_samples.push_back(of_batch[i].item<double>());
    }
  }
  std::vector<at::Tensor> flat;
  for (at::Tensor& parameter : model->lora.Parameters()) {
    flat.push_back(parameter.grad().reshape({-1}).to(at::kDouble));
    parameter.mutable_grad() = at::Tensor();
  }
  found.gradient_P = at::cat(flat);
  return found;
}

TEST_F(TrustRegionTest, TheDivergenceFromTheBaseModelIsInLossAndGradient) {
  const v1::JobSpec with = BaseJob(2), without = BaseJob(0);
  const Outcome plain = Train(1, without, OneEpoch(without)).front();
  const Epochs epochs = OneEpoch(with);
  const FromBase expected = CompareWithBase(&model(), with, epochs[0]);
  const Outcome outcome = Train(1, with, epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const double kl = Mean(expected.kl_of_samples);
  EXPECT_GT(kl, 0);
  EXPECT_NEAR(outcome.rows[0].kl_to_base(), kl, 1e-4 * kl);
  EXPECT_NEAR(outcome.rows[0].loss() - plain.rows[0].loss(), 2 * kl, 2e-4 * kl + 1e-6);
  EXPECT_FALSE(plain.rows[0].has_kl_to_base());
  const double share = 1 - with.train().adam_beta1();
  const at::Tensor found_P =
      (outcome.Moment("m", model().lora) - plain.Moment("m", model().lora)) / share;
  EXPECT_LT((found_P - 2 * expected.gradient_P).norm().item<double>(),
            1e-3 * 2 * expected.gradient_P.norm().item<double>());
}

TEST_F(TrustRegionTest, SamplesThatAreLeftOutHaveNoDivergenceInTheLoss) {
  const auto grouped = [](double kl_coef) {
    v1::JobSpec job = BaseJob(kl_coef);
    job.mutable_sample()->set_group_size(5);
    job.mutable_advantage()->set_mode("group");
    job.mutable_advantage()->set_zero_std("drop");
    return job;
  };
  const auto sample = [](const v1::JobSpec& job) {
    Epochs epochs = OneEpoch(job);
    for (TrajectoryBatch& batch : epochs[0]) {  // The second group's rewards are equal.
      for (int64_t i = 0; i < batch.batch_size(); ++i) {
        if (batch.first_sample + i >= 5) batch.rewards_B[i] = 0.1;
      }
    }
    return epochs;
  };
  const Outcome plain = Train(1, grouped(0), sample(grouped(0))).front();
  const Epochs epochs = sample(grouped(1));
  const FromBase direct = CompareWithBase(&model(), grouped(1), epochs[0]);
  const Outcome outcome = Train(1, grouped(1), epochs).front();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const std::vector<double> kept(direct.kl_of_samples.begin(), direct.kl_of_samples.begin() + 5);
  EXPECT_NEAR(outcome.rows[0].loss() - plain.rows[0].loss(), Mean(kept), 1e-4 * Mean(kept) + 1e-6);
  EXPECT_NEAR(outcome.rows[0].kl_to_base(), Mean(direct.kl_of_samples),
              1e-4 * Mean(direct.kl_of_samples));
}

TEST_F(TrustRegionTest, RecordsWithoutTheMeansAreRefused) {
  for (const v1::JobSpec& job : {KlJob(1, 1), BaseJob(1)}) {
    const Outcome outcome = Train(1, job, OneEpoch(SmallJob())).front();
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("other means of steps"));
  }
}

}  // namespace
}  // namespace imageddpo
