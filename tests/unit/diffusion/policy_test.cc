// The policy over a denoiser and a step rule that only the tests know: what rollout and update rely
// on follows from the two interfaces, not from Stable Diffusion.
#include "common/diffusion/policy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/log_prob_gradients.h"
#include "tests/testing/toy_policy.h"

namespace imageddpo {
namespace {

constexpr int64_t kBatch = 3, kChannels = 4, kSide = 5, kTokens = 2, kWidth = 6, kSteps = 4;

struct Case {
  std::string name;
  Guidance guidance;
  std::vector<bool> same_tokens_B = std::vector<bool>(kBatch, false);
};

class PolicyTest : public testing::TestWithParam<Case> {
 protected:
  PolicyTest() {
    EXPECT_TRUE(denoiser_->BindLora(lora_).ok());
    conditioning_ = {.prompt_embeds_BLD = Draw({kBatch, kTokens, kWidth}),
                     .negative_embeds_BLD = Draw({kBatch, kTokens, kWidth}),
                     .same_tokens_B = GetParam().same_tokens_B};
  }

  at::Tensor Draw(at::IntArrayRef shape) { return KeyedNormal({.sample = drawn_++}, shape); }
  at::Tensor DrawLatents() { return Draw({kBatch, kChannels, kSide, kSide}); }
  at::Tensor Timesteps(int64_t k) const {
    return at::full({kBatch}, schedule_.timesteps[static_cast<size_t>(k)], at::kLong);
  }

  struct Recorded {
    std::vector<at::Tensor> latents, log_probs;
  };

  /// A trajectory; each step's gradients go into `gradients`, if there are any.
  Recorded SampleAll(LogProbGradients* gradients = nullptr) {
    drawn_ = 100;
    const at::AutoGradMode with_graph(gradients != nullptr);
    StepConditioning conditioning = policy_.Prepare(conditioning_);
    Recorded recorded{.latents = {DrawLatents()}};
    for (int64_t k = 0; k < kSteps; ++k) {
      const StepResult step =
          policy_.Sample(recorded.latents.back(), Timesteps(k), conditioning, DrawLatents());
      if (gradients != nullptr) gradients->Add(step);
      recorded.latents.push_back(step.prev_sample_BCHW);
      recorded.log_probs.push_back(step.log_prob_B.detach());
    }
    conditioning.text.Backward();
    return recorded;
  }

  uint64_t drawn_ = 0;
  const std::unique_ptr<ToyDenoiser> denoiser_ = ToyDenoiser::Make(kChannels, kWidth);
  const Lora lora_ = ToyLora(*denoiser_);
  const GaussianWalk walk_;
  const Schedule schedule_ = *walk_.MakeSchedule(kSteps, 1.0);
  const Policy policy_{*denoiser_,
                       walk_,
                       {.num_steps = kSteps,
                        .guidance = GetParam().guidance,
                        .eta = 0.5,
                        .first_timestep = schedule_.timesteps.front()}};
  Conditioning conditioning_;
  std::vector<at::Tensor> parameters_ = lora_.Parameters();
};

TEST_P(PolicyTest, AReplayHasTheSamplesBitsAndTheRatioOne) {
  const Recorded recorded = SampleAll();
  const StepConditioning conditioning = policy_.Prepare(conditioning_);
  for (size_t k = 0; k < kSteps; ++k) {
    const StepResult step = policy_.Replay(recorded.latents[k], Timesteps(static_cast<int64_t>(k)),
                                           conditioning, recorded.latents[k + 1]);
    EXPECT_TRUE(step.log_prob_B.requires_grad());
    EXPECT_TRUE(step.log_prob_B.equal(recorded.log_probs[k])) << "step " << k;
    const at::Tensor ratio_B = (step.log_prob_B - recorded.log_probs[k]).exp();
    EXPECT_TRUE(ratio_B.equal(at::ones({kBatch})));
    EXPECT_TRUE(step.prev_sample_BCHW.equal(recorded.latents[k + 1]));
  }
}

TEST_P(PolicyTest, TheTextCounts) {
  const Recorded recorded = SampleAll();
  conditioning_.negative_embeds_BLD = -conditioning_.negative_embeds_BLD;
  const StepResult step = policy_.Replay(recorded.latents[0], Timesteps(0),
                                         policy_.Prepare(conditioning_), recorded.latents[1]);
  EXPECT_FALSE(step.log_prob_B.equal(recorded.log_probs[0]));
}

/// The gradients that are collected in the rollout, apart for each sample, against those of a
/// replay of that sample's log-probabilities.
TEST_P(PolicyTest, GradientsOfSingleSamplesAreThoseOfAReplay) {
  LogProbGradients collector(denoiser_.get(), lora_, kBatch, conditioning_,
                             policy_.options().guidance);
  const Recorded recorded = SampleAll(&collector);
  const at::Tensor gradients_BP = collector.Take();
  for (size_t k = 0; k < kSteps; ++k) {
    EXPECT_TRUE(SampleAll().log_probs[k].equal(recorded.log_probs[k]));
  }
  for (int64_t sample = 0; sample < kBatch; ++sample) {
    StepConditioning conditioning = policy_.Prepare(conditioning_);
    for (size_t k = 0; k < kSteps; ++k) {
      policy_
          .Replay(recorded.latents[k], Timesteps(static_cast<int64_t>(k)), conditioning,
                  recorded.latents[k + 1])
          .log_prob_B[sample]
          .backward();
    }
    conditioning.text.Backward();
    std::vector<at::Tensor> flat;
    for (at::Tensor& parameter : parameters_) {
      flat.push_back(parameter.grad().reshape({-1}));
      parameter.mutable_grad() = at::Tensor();
    }
    const at::Tensor expected_P = at::cat(flat);
    ASSERT_GT(expected_P.norm().item<double>(), 0);
    EXPECT_LT((gradients_BP[sample] - expected_P).norm().item<double>(),
              1e-5 * expected_P.norm().item<double>())
        << "sample " << sample;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Guidance, PolicyTest,
    testing::Values(
        Case{.name = "off"}, Case{.name = "on", .guidance = {.scale = 3}},
        Case{.name = "rescaled", .guidance = {.scale = 3, .rescale = 0.5}},
        Case{.name = "for_some", .guidance = {.scale = 3}, .same_tokens_B = {false, true, false}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace imageddpo
