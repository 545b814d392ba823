// A second rule of each kind, which only this file knows, goes through the real trainer, and so
// does a second denoiser with a second step rule; the rules' states go through a checkpoint.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "common/diffusion/keyed_noise.h"
#include "tests/testing/judged.h"
#include "tests/testing/toy_policy.h"
#include "tests/unit/loop/small_job.h"
#include "trainer/algo/ppo_loss.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// Rewards less their mean; counts the epochs.
class Centred final : public AdvantageRule {
 public:
  std::vector<double> Advantages(const EpochRewards& epoch) override {
    ++epochs_;
    std::vector<double> advantages = epoch.rewards;
    const double mean = std::accumulate(advantages.begin(), advantages.end(), 0.0) /
                        static_cast<double>(advantages.size());
    for (double& advantage : advantages) advantage -= mean;
    return advantages;
  }
  nlohmann::json State() const override { return {{"epochs", epochs_}}; }
  absl::Status Restore(const nlohmann::json& state) override {
    if (!state.is_object()) return absl::InvalidArgumentError("no count of epochs");
    epochs_ = state.at("epochs");
    return absl::OkStatus();
  }

 private:
  int64_t epochs_ = 0;
};

/// REINFORCE with an importance weight (Williams, 1992): -A·ratio, without a clip. Counts updates.
class Reinforce final : public LossRule {
 public:
  LossResult Loss(const LossInputs& inputs) const override {
    const at::Tensor difference_B = inputs.log_prob_B - inputs.recorded_log_prob_B;
    const at::Tensor ratio_B = difference_B.exp();
    return {.loss = (-inputs.advantages_B * ratio_B).mean(),
            .approx_kl = 0.5 * difference_B.detach().pow(2).mean(),
            .clipfrac = at::zeros({}),
            .ratio_B = ratio_B.detach()};
  }
  OnPolicyLoss LossAtSampling(const at::Tensor& advantages_B) const override {
    OnPolicyLoss result{.loss = -advantages_B.mean().item<double>()};
    for (int64_t i = 0; i < advantages_B.numel(); ++i) {
      result.derivative_B.push_back(-advantages_B[i].item<double>());
    }
    return result;
  }
  void EndUpdate(const UpdateMeans& means) override {
    ++updates_;
    last_loss_ = means.loss;
  }
  nlohmann::json State() const override { return {{"updates", updates_}, {"loss", last_loss_}}; }
  absl::Status Restore(const nlohmann::json& state) override {
    if (!state.is_object()) return absl::InvalidArgumentError("no count of updates");
    updates_ = state.at("updates");
    last_loss_ = state.at("loss");
    return absl::OkStatus();
  }

 private:
  int64_t updates_ = 0;
  double last_loss_ = 0;
};

class RulesTest : public testing::Test {
 protected:
  RulesTest() : job_(SmallJob()) {
    job_.mutable_train()->set_adv_clip_max(1e6);
    job_.mutable_train()->set_max_grad_norm(1e6);
  }

  std::unique_ptr<Trainer> MakeTrainer(std::unique_ptr<AdvantageRule> advantages,
                                       std::unique_ptr<LossRule> loss) {
    policy_.emplace(model_.MakePolicy(job_));
    return std::make_unique<Trainer>(Judged(job_), *policy_, &model_.lora, std::move(advantages),
                                     std::move(loss), &exchange_, &gradients_);
  }
  std::unique_ptr<Trainer> MakeJobsTrainer() {
    return MakeTrainer(MakeAdvantageRule(Judged(job_).advantage()), MakeLossRule(Judged(job_)));
  }

  /// AdamW's first moment after one epoch from the start on: the gradient, but for a factor.
  at::Tensor Train(std::unique_ptr<AdvantageRule> advantages, std::unique_ptr<LossRule> loss) {
    model_.lora.Unflatten(start_P_);
    const auto trainer = MakeTrainer(std::move(advantages), std::move(loss));
    const auto batches = SampleEpoch(model_, job_, 0, 0);
    if (job_.train().update() == "single_pass") {
      for (const auto& batch : batches) {
        gradients_.Put(batch.micro_batch,
                       KeyedNormal({.seed = 5, .sample = static_cast<uint64_t>(batch.micro_batch)},
                                   {batch.batch_size(), start_P_.numel()}));
      }
    }
    const auto rows = trainer->TrainEpoch(0, batches, [] { return absl::OkStatus(); });
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<at::Tensor> flat;
    for (const auto& [name, tensor] : trainer->OptimizerTensors()) {
      if (name.starts_with("m.")) flat.push_back(tensor.reshape({-1}));
    }
    state_ = trainer->StateJson();
    return at::cat(flat);
  }

  /// The standard deviation of the epoch's rewards, by which the global rule divides.
  double Spread() const {
    std::vector<at::Tensor> rewards;
    for (const auto& batch : SampleEpoch(model_, job_, 0, 0)) rewards.push_back(batch.rewards_B);
    return at::cat(rewards).std(/*unbiased=*/false).item<double>();
  }

  static double Difference(const at::Tensor& found, const at::Tensor& expected) {
    return ((found - expected).norm() / expected.norm()).item<double>();
  }

  v1::JobSpec job_;
  SmallModel model_;
  const at::Tensor start_P_ = model_.lora.Flatten();
  std::optional<Policy> policy_;
  ShardExchange exchange_{nullptr, {0}, 0, ReduceKind::kExact, std::chrono::seconds(1)};
  SampleGradients gradients_;
  nlohmann::json state_;  ///< After the last Train().
};

TEST_F(RulesTest, ASecondOneOfEachKindTrains) {
  for (const char* update : {"replay", "single_pass"}) {
    job_.mutable_train()->set_update(update);
    job_.mutable_topology()->set_colocated(1);
    const auto global = [this] { return MakeAdvantageRule(Judged(job_).advantage()); };
    const auto ppo = [this] { return MakeLossRule(Judged(job_)); };
    const at::Tensor expected = Train(global(), ppo());
    ASSERT_GT(expected.norm().item<double>(), 0);
    // At ratio 1 no clip counts, and gradients are linear in the advantages.
    EXPECT_LT(Difference(Train(global(), std::make_unique<Reinforce>()), expected), 1e-5);
    EXPECT_LT(Difference(Train(std::make_unique<Centred>(), ppo()), expected * Spread()), 1e-5);
    EXPECT_FALSE(state_.contains("loss")) << "PPO has no state";
    EXPECT_LT(Difference(Train(std::make_unique<Centred>(), std::make_unique<Reinforce>()),
                         expected * Spread()),
              1e-5);
    EXPECT_EQ(state_.at("statistics").at("epochs"), 1);
    EXPECT_EQ(state_.at("loss").at("updates"), 1);
    EXPECT_NEAR(state_.at("loss").at("loss").get<double>(), 0, 1e-6)
        << "at ratio 1 it is minus the mean advantage";
  }
}

TEST_F(RulesTest, TheirStatesArePartOfACheckpoint) {
  Train(std::make_unique<Centred>(), std::make_unique<Reinforce>());
  const auto resumed = MakeTrainer(std::make_unique<Centred>(), std::make_unique<Reinforce>());
  const auto optimizer = resumed->OptimizerTensors();
  ASSERT_TRUE(resumed->Restore(optimizer, state_).ok());
  EXPECT_EQ(nlohmann::json(resumed->StateJson()), state_);
  state_.erase("loss");
  EXPECT_THAT(std::string(resumed->Restore(optimizer, state_).message()),
              HasSubstr("state.json: no count of updates"));
}

/// Nor does the trainer know what the policy is made of.
TEST_F(RulesTest, ASecondDenoiserAndStepRuleTrain) {
  constexpr int64_t kChannels = 4, kWidth = 6;
  const auto denoiser = ToyDenoiser::Make(kChannels, kWidth);
  Lora lora = ToyLora(*denoiser);
  ASSERT_TRUE(denoiser->BindLora(lora).ok());
  const GaussianWalk walk;
  job_.mutable_sample()->set_guidance_scale(3);
  const Schedule schedule =
      *walk.MakeSchedule(job_.sample().num_steps(), job_.sample().noise_strength());
  const Policy policy(*denoiser, walk,
                      {.num_steps = job_.sample().num_steps(),
                       .guidance = {.scale = job_.sample().guidance_scale()},
                       .eta = job_.sample().eta(),
                       .first_timestep = schedule.timesteps.front()});
  const std::string before = lora.Hash();
  Trainer trainer(Judged(job_), policy, &lora, MakeAdvantageRule(Judged(job_).advantage()),
                  MakeLossRule(Judged(job_)), &exchange_);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const auto rows =
        trainer.TrainEpoch(epoch, SampleEpoch(policy, kChannels, kWidth, job_, epoch, epoch),
                           [] { return absl::OkStatus(); });
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->front().ratio_first_step_max_error(), 0) << "a replay repeats the rollout";
    EXPECT_GT(rows->front().grad_norm(), 0);
  }
  EXPECT_NE(lora.Hash(), before);
}

/// What checkpoints have held from the first version on, whatever the job's mode.
TEST_F(RulesTest, ThoseOfJobsTakeOlderCheckpoints) {
  nlohmann::json state = MakeJobsTrainer()->StateJson();
  EXPECT_FALSE(state.contains("statistics"));
  state["statistics"] =
      nlohmann::json::parse(R"({"buffer_size": 16, "min_count": 16, "buffers": {}})");
  const auto global = MakeJobsTrainer();
  EXPECT_TRUE(global->Restore(global->OptimizerTensors(), state).ok());

  job_.mutable_advantage()->set_mode("per_key");
  state["statistics"]["buffers"]["image-1"] = {0.5, 1.0 / 3};
  const auto keyed = MakeJobsTrainer();
  ASSERT_TRUE(keyed->Restore(keyed->OptimizerTensors(), state).ok());
  EXPECT_EQ(nlohmann::json(keyed->StateJson()).at("statistics"), state["statistics"]);
  state.erase("statistics");
  EXPECT_THAT(std::string(keyed->Restore(keyed->OptimizerTensors(), state).message()),
              HasSubstr("state.json: per-key statistics"));
}

}  // namespace
}  // namespace imageddpo
