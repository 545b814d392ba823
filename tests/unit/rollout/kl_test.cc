// What a rollout records of its steps: those that are trained alone, and beside the latents their
// means, the base model's, and how far the two are apart, as a reward.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/diffusion/keyed_noise.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/sample_gradients.h"
#include "common/trajectory/schedule/step_schedule.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

/// One that does something.
Lora MakeLora(const Denoiser& denoiser) {
  uint64_t number = 0;
  const auto normal = [&number](at::IntArrayRef shape) {
    return KeyedNormal({.purpose = StreamPurpose::kLoraInit, .sample = number++}, shape);
  };
  auto lora = Lora::Create(denoiser.linears(), {}, [&](const std::string&, at::IntArrayRef shape) {
    return normal(shape);
  });
  EXPECT_TRUE(lora.ok()) << lora.status();
  const at::NoGradGuard no_grad;
  for (const Lora::Module& module : lora->modules()) {
    module.up_OR.copy_(normal(module.up_OR.sizes()).mul_(0.1));
  }
  return *std::move(lora);
}

class RolloutKlTest : public RolloutFixture {
 protected:
  RolloutKlTest() { Load(); }

  /// The model with the LoRA. A rollout takes parts of it away that the next one needs.
  void Load() {
    pipeline_ = LoadModel();
    if (!lora_) lora_.emplace(MakeLora(*pipeline_.denoiser));
    EXPECT_TRUE(pipeline_.denoiser->BindLora(*lora_).ok());
  }

  void WithReward(double weight) {
    v1::RewardSpec& reward = *job_.add_rewards();
    reward.set_type("kl_to_base");
    reward.set_weight(weight);
    job_ = Judged(job_).spec();
  }

  /// The second of two micro-batches.
  TrajectoryBatch Sample(SampleGradients* gradients = nullptr) {
    Load();
    const std::unique_ptr<Rollout> rollout = Make(&pipeline_);
    if (gradients != nullptr) rollout->CollectGradients(&*lora_, gradients);
    EXPECT_TRUE(Scored(rollout->Sample(0, 0, 0, false)).ok());
    auto batch = Scored(rollout->Sample(0, 1, 0, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }

  static Conditioning ConditioningOf(const TrajectoryBatch& batch) {
    Conditioning conditioning{.same_tokens_B = batch.keys.same_tokens};
    std::vector<at::Tensor> prompts, negatives;
    for (const uint64_t hash : batch.keys.prompt_hashes) {
      prompts.push_back(batch.new_embeddings.at(hash));
      negatives.push_back(batch.new_embeddings.at(batch.keys.negative_hash));
    }
    conditioning.prompt_embeds_BLD = at::stack(prompts);
    conditioning.negative_embeds_BLD = at::stack(negatives);
    return conditioning;
  }

  Policy MakePolicy(double eta) const {
    v1::SampleSpec sample = job_.sample();
    sample.set_eta(eta);
    const Schedule schedule =
        *pipeline_.step_rule->MakeSchedule(sample.num_steps(), sample.noise_strength());
    return {*pipeline_.denoiser, *pipeline_.step_rule, MakePolicyOptions(sample, schedule)};
  }

  /// 4 of 8 steps are executed.
  void WithFourSteps() { job_.mutable_sample()->set_num_steps(8); }
  void SetWindow(v1::StepWindowSpec* window, int64_t size, int64_t start) {
    window->set_size(size);
    window->set_start(start);
    job_ = Judged(job_).spec();
  }

  /// Numbers of a part, by sample.
  static std::vector<double> PartOf(const TrajectoryBatch& batch, const std::string& name) {
    const auto found = std::find(batch.part_names.begin(), batch.part_names.end(), name);
    std::vector<double> values;
    if (found == batch.part_names.end()) return values;
    const int64_t column = found - batch.part_names.begin();
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      values.push_back(batch.parts_BP[i][column].item<double>());
    }
    return values;
  }

  Pipeline pipeline_;
  std::optional<Lora> lora_;
};

TEST_F(RolloutKlTest, MeansAreThoseOfAReplayWithAndWithoutTheLora) {
  const TrajectoryBatch plain = Sample();
  EXPECT_FALSE(plain.means.defined() || plain.base_means.defined());
  job_.mutable_train()->set_trust_region("kl");
  job_.mutable_train()->set_kl_coef(0.1);
  job_.mutable_train()->set_num_inner_epochs(2);
  WithReward(-0.5);
  const TrajectoryBatch batch = Sample();
  EXPECT_TRUE(batch.latents.equal(plain.latents)) << "what is sampled stays the same";

  const int64_t b = batch.batch_size(), num_steps = batch.timesteps_BK.size(1);
  const Conditioning conditioning = ConditioningOf(batch);
  const Policy policy = MakePolicy(job_.sample().eta());
  std::vector<at::Tensor> sigmas;
  const auto means = [&] {
    const at::NoGradGuard no_grad;
    const StepConditioning prepared = policy.Prepare(conditioning);
    std::vector<at::Tensor> of_steps;
    sigmas.clear();
    for (int64_t k = 0; k < num_steps; ++k) {
      const StepResult step = policy.Replay(batch.latents.select(1, k).contiguous(),
                                            batch.timesteps_BK.select(1, k).contiguous(), prepared,
                                            batch.latents.select(1, k + 1).contiguous());
      of_steps.push_back(step.mean_BCHW);
      sigmas.push_back(step.sigma_B);
    }
    return at::stack(of_steps, 1);
  };
  EXPECT_TRUE(batch.means.equal(means()));
  pipeline_.denoiser->UnbindLora();
  EXPECT_TRUE(batch.base_means.equal(means()));

  const std::vector<double> found = PartOf(batch, "kl_to_base.value"),
                            jpeg = PartOf(batch, "jpeg.value");
  ASSERT_EQ(found.size(), static_cast<size_t>(b));
  for (int64_t i = 0; i < b; ++i) {
    double kl = 0;
    for (int64_t k = 0; k < num_steps; ++k) {
      const auto sigma = sigmas[k][i].item<double>();
      const at::Tensor distance =
          batch.means[i][k].to(at::kDouble) - batch.base_means[i][k].to(at::kDouble);
      if (sigma > 0) kl += distance.pow(2).sum().item<double>() / (2 * sigma * sigma);
    }
    EXPECT_GT(kl, 0);
    EXPECT_NEAR(found[i], kl, 1e-5 * kl) << "sample " << i;
    const double reward = jpeg[i] - 0.5 * found[i];
    EXPECT_NEAR(batch.rewards_B[i].item<double>(), reward, 1e-9 * (1 + std::abs(reward)));
  }
}

TEST_F(RolloutKlTest, ASinglePassCollectsTheSameGradients) {
  SampleGradients without, with;
  const TrajectoryBatch plain = Sample(&without);
  WithReward(-0.5);
  const TrajectoryBatch batch = Sample(&with);
  for (const int64_t m : {0, 1}) EXPECT_TRUE(with.Take(m).equal(without.Take(m))) << m;
  EXPECT_TRUE(batch.latents.equal(plain.latents)) << "the LoRA is bound again";
  EXPECT_FALSE(batch.base_means.defined()) << "the loss has no use for them";
  EXPECT_GT(PartOf(batch, "kl_to_base.value").at(0), 0);
}

TEST_F(RolloutKlTest, AnEvaluationHasTheRewardToo) {
  WithReward(-0.5);
  const auto divergences = [this](bool with_lora) {
    Load();
    if (!with_lora) pipeline_.denoiser->UnbindLora();
    const auto result = Scored(Make(&pipeline_)->Evaluate(0, 0));
    EXPECT_TRUE(result.ok()) << result.status();
    std::vector<double> values;
    const int parts = result->part_names_size();
    for (int p = 0; p < parts; ++p) {
      if (result->part_names(p) != "kl_to_base.value") continue;
      for (int i = 0; i < result->rewards_size(); ++i)
        values.push_back(result->parts(i * parts + p));
    }
    return values;
  };
  const std::vector<double> with = divergences(true);
  ASSERT_EQ(with.size(), 2U);
  for (const double value : with) EXPECT_GT(value, 0);
  EXPECT_EQ(divergences(false), std::vector<double>(2, 0.0)) << "of the base model from itself";
}

TEST_F(RolloutKlTest, TheRecordOfAWindowIsThatPartOfTheWhole) {
  WithFourSteps();
  const TrajectoryBatch whole = Sample();
  ASSERT_EQ(whole.timesteps_BK.size(1), 4);
  SetWindow(job_.mutable_train()->mutable_step_window(), 2, 1);
  const TrajectoryBatch batch = Sample();
  EXPECT_TRUE(batch.latent_of_step.empty());
  EXPECT_TRUE(batch.latents.equal(whole.latents.narrow(1, 1, 3)));
  EXPECT_TRUE(batch.timesteps_BK.equal(whole.timesteps_BK.narrow(1, 1, 2)));
  EXPECT_TRUE(batch.log_probs_BK.equal(whole.log_probs_BK.narrow(1, 1, 2)));
  EXPECT_TRUE(batch.rewards_B.equal(whole.rewards_B)) << "the images are the same";
}

TEST_F(RolloutKlTest, TheRecordOfAShareHasTheLatentsAroundEachOfItsSteps) {
  WithFourSteps();
  int gaps = 0;
  for (const uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {  // Of six pairs, three have a gap.
    job_.mutable_train()->set_step_fraction(0.5);
    job_.set_seed(seed);
    const TrajectoryBatch batch = Sample();
    job_.mutable_train()->set_step_fraction(1);
    const TrajectoryBatch all = Sample();
    const EpochSteps steps =
        StepSchedule({.executed = 4, .trained = 2}, seed).Of(0, batch.first_sample);
    ASSERT_EQ(batch.timesteps_BK.size(1), 2);
    for (int64_t j = 0; j < 2; ++j) {
      const int64_t k = steps.trained[j];
      const int64_t before = batch.latent_of_step.empty() ? j : batch.latent_of_step[j];
      EXPECT_TRUE(batch.latents.select(1, before).equal(all.latents.select(1, k)));
      EXPECT_TRUE(batch.latents.select(1, before + 1).equal(all.latents.select(1, k + 1)));
      EXPECT_TRUE(batch.timesteps_BK.select(1, j).equal(all.timesteps_BK.select(1, k)));
      EXPECT_TRUE(batch.log_probs_BK.select(1, j).equal(all.log_probs_BK.select(1, k)));
    }
    const bool has_gap = steps.trained[1] > steps.trained[0] + 1;
    EXPECT_EQ(batch.latents.size(1), has_gap ? 4 : 3);
    gaps += has_gap ? 1 : 0;
  }
  EXPECT_GT(gaps, 0);
}

TEST_F(RolloutKlTest, OutsideOfARandomWindowStepsAreDeterministic) {
  WithFourSteps();
  const TrajectoryBatch whole = Sample();
  SetWindow(job_.mutable_sample()->mutable_sde_window(), 2, 1);
  const TrajectoryBatch batch = Sample();
  ASSERT_EQ(batch.timesteps_BK.size(1), 2);

  const at::NoGradGuard no_grad;
  const Policy random = MakePolicy(1), deterministic = MakePolicy(0);
  const StepConditioning conditioning = random.Prepare(ConditioningOf(batch));
  const at::Tensor start = whole.latents.select(1, 0).contiguous();
  const StepResult first = deterministic.Sample(start, whole.timesteps_BK.select(1, 0).contiguous(),
                                                conditioning, at::randn_like(start));
  EXPECT_TRUE(batch.latents.select(1, 0).equal(first.prev_sample_BCHW));
  for (int64_t k = 0; k < 2; ++k) {
    const StepResult step = random.Replay(
        batch.latents.select(1, k).contiguous(), batch.timesteps_BK.select(1, k).contiguous(),
        conditioning, batch.latents.select(1, k + 1).contiguous());
    EXPECT_TRUE(batch.log_probs_BK.select(1, k).equal(step.log_prob_B)) << k;
    EXPECT_NE(step.log_prob_B[0].item<float>(), 0) << k;
  }
}

TEST_F(RolloutKlTest, ASinglePassCollectsTheGradientsOfTheTrainedSteps) {
  WithFourSteps();
  SampleGradients of_all;
  Sample(&of_all);
  const at::Tensor expected_BP = of_all.Take(1).to(at::kDouble);
  at::Tensor sum_BP = at::zeros_like(expected_BP);
  for (int64_t start = 0; start < 4; start += 2) {
    SetWindow(job_.mutable_train()->mutable_step_window(), 2, start);
    SampleGradients of_window;
    Sample(&of_window);
    const at::Tensor part_BP = of_window.Take(1).to(at::kDouble);
    EXPECT_GT(part_BP.norm().item<double>(), 0) << start;
    sum_BP += part_BP;
  }
  EXPECT_LT((sum_BP - expected_BP).norm().item<double>(), 1e-5 * expected_BP.norm().item<double>());
}

}  // namespace
}  // namespace imageddpo
