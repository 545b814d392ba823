// The single pass against the replay: the same samples, bit for bit, and the same gradients.
#include "trainer/loop/single_pass.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "common/diffusion/log_prob_gradients.h"
#include "common/diffusion/pipeline.h"
#include "rollout/sampler/sampler.h"
#include "tests/parity/stored_pipeline.h"

namespace imageddpo {
namespace {

constexpr int64_t kBatch = 4;
constexpr int64_t kNumSteps = 6;

struct Case {
  std::string name;
  std::string model;  ///< A stored pipeline; "demo": the demo's.
  double guidance = 1.0;
  double rescale = 0.0;
  double eta = 1.0;
  double strength = 0.7;
  std::vector<bool> same_tokens = {false, false, false, false};
  at::ScalarType dtype = at::kFloat;
};

class SinglePassTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    at::manual_seed(7);
    const Case& c = GetParam();
    const bool demo = c.model == "demo";
    const StoredPipeline stored(demo ? "sd1-plain" : c.model);
    auto loaded = Pipeline::Load(demo ? "deploy/demo/tiny-sd" : stored.model_path(),
                                 {.dtype = c.dtype}, {.vae = true, .text = false});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    pipeline_ = *std::move(loaded);
    auto lora =
        Lora::Create(pipeline_.unet->linears(), LoraConfig(),
                     [](const std::string&, at::IntArrayRef shape) { return at::randn(shape); });
    ASSERT_TRUE(lora.ok()) << lora.status();
    lora_ = *std::move(lora);
    for (const Lora::Module& module : lora_.modules()) {
      const at::NoGradGuard no_grad;
      module.up_OR.normal_(0, 0.1);
    }
    ASSERT_TRUE(pipeline_.unet->BindLora(lora_).ok());
    schedule_ = *pipeline_.scheduler->MakeSchedule(kNumSteps, c.strength);
    policy_.emplace(*pipeline_.unet, *pipeline_.scheduler,
                    PolicyOptions{.num_steps = kNumSteps,
                                  .guidance = {.scale = c.guidance, .rescale = c.rescale},
                                  .eta = c.eta,
                                  .first_timestep = schedule_.timesteps.front()});
    const int64_t side = 8 * pipeline_.vae->config().downscale();
    const int64_t width = pipeline_.unet->config().cross_attention_dim;
    const int64_t channels = pipeline_.vae->config().latent_channels;
    inputs_.posterior = EncodeImages(*pipeline_.vae, at::rand({kBatch, 3, side, side}));
    inputs_.encode_noise_BCHW = at::randn({kBatch, channels, 8, 8});
    inputs_.init_noise_BCHW = at::randn({kBatch, channels, 8, 8});
    inputs_.step_noise_BKCHW = at::randn({kBatch, kNumSteps, channels, 8, 8});
    Conditioning& conditioning = inputs_.conditioning;
    conditioning.negative_embeds_BLD =
        at::randn({1, 5, width}).expand({kBatch, -1, -1}).contiguous();
    conditioning.prompt_embeds_BLD = at::randn({kBatch, 5, width});
    conditioning.same_tokens_B = c.same_tokens;
  }

  std::unique_ptr<LogProbGradients> Collector() {
    return std::make_unique<LogProbGradients>(pipeline_.unet.get(), lora_, kBatch,
                                              inputs_.conditioning, policy_->options().guidance);
  }
  SampledTrajectories Sample(LogProbGradients* gradients) {
    return SampleTrajectories(*policy_, *pipeline_.vae, schedule_, inputs_, at::kCPU, gradients);
  }

  Pipeline pipeline_;
  Lora lora_;
  std::optional<Policy> policy_;
  Schedule schedule_;
  SamplerInputs inputs_;
};

TEST_P(SinglePassTest, SamplesTheSameBitsAndHasTheReplaysGradient) {
  const SampledTrajectories plain = Sample(nullptr);
  std::unique_ptr<LogProbGradients> collector = Collector();
  const SampledTrajectories sampled = Sample(collector.get());
  SampleGradients store;
  store.Put(0, collector->Take());
  collector.reset();
  EXPECT_TRUE(sampled.latents_BKCHW.equal(plain.latents_BKCHW));
  EXPECT_TRUE(sampled.log_probs_BK.equal(plain.log_probs_BK));
  EXPECT_FALSE(sampled.log_probs_BK.requires_grad());
  for (const at::Tensor& parameter : lora_.Parameters()) EXPECT_FALSE(parameter.grad().defined());

  const ReplayBatch batch{.latents_BKCHW = sampled.latents_BKCHW,
                          .timesteps_BK = sampled.timesteps_BK,
                          .log_probs_BK = sampled.log_probs_BK,
                          .advantages_B = at::tensor({0.7F, -1.3F, 9.0F, -0.1F}),
                          .conditioning = inputs_.conditioning};
  const int64_t num_steps = batch.timesteps_BK.size(1);
  const double weight = 1.0 / static_cast<double>(num_steps);
  ReplayUpdate replay(*policy_, lora_.Parameters(), PpoOptions());
  const std::vector<StepStatistics> expected_steps = replay.Accumulate(batch, weight);
  const at::Tensor expected_P = replay.TakeGradient();
  SinglePassUpdate single_pass(&store, PpoOptions());
  const std::vector<StepStatistics> steps =
      single_pass.Accumulate(0, batch.advantages_B, num_steps, weight);
  const at::Tensor found_P = single_pass.TakeGradient();
  EXPECT_TRUE(store.empty());

  ASSERT_EQ(steps.size(), expected_steps.size());
  for (size_t k = 0; k < steps.size(); ++k) {
    EXPECT_NEAR(steps[k].loss, expected_steps[k].loss, 1e-6);
    EXPECT_EQ(steps[k].approx_kl, expected_steps[k].approx_kl);
    EXPECT_EQ(steps[k].clipfrac, expected_steps[k].clipfrac);
    EXPECT_EQ(steps[k].ratio_max_error, expected_steps[k].ratio_max_error);
  }
  ASSERT_GT(expected_P.norm().item<double>(), 0);
  const std::vector<at::Tensor> expected = SplitLike(expected_P, lora_.Parameters());
  const std::vector<at::Tensor> found = SplitLike(found_P, lora_.Parameters());
  // In bf16 the two sum rows of rounded values in another order.
  const double bound = GetParam().dtype != at::kFloat ? 5e-2 : GetParam().rescale > 0 ? 3e-5 : 1e-5;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double norm = expected[i].norm().item<double>();
    worst = std::max(worst, (found[i] - expected[i]).norm().item<double>() / norm);
  }
  EXPECT_LE(worst, bound);
  std::printf("    gradients differ by at most %.1e of a tensor's norm\n", worst);
}

TEST_P(SinglePassTest, GradientsAreOfOneSampleEachAndRepeatBitForBit) {
  std::unique_ptr<LogProbGradients> collector = Collector();
  const SampledTrajectories sampled = Sample(collector.get());
  const at::Tensor gradients_BP = collector->Take();
  collector.reset();
  collector = Collector();
  Sample(collector.get());
  EXPECT_TRUE(collector->Take().equal(gradients_BP));
  collector.reset();

  // Another last sample leaves the gradients of the others as they are.
  inputs_.init_noise_BCHW[kBatch - 1].normal_();
  collector = Collector();
  Sample(collector.get());
  const at::Tensor changed_BP = collector->Take();
  EXPECT_TRUE(changed_BP.narrow(0, 0, kBatch - 1).equal(gradients_BP.narrow(0, 0, kBatch - 1)));
  EXPECT_FALSE(changed_BP[kBatch - 1].equal(gradients_BP[kBatch - 1]));
}

std::string CaseName(const testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Shapes, SinglePassTest,
    testing::Values(
        Case{.name = "sd1_plain", .model = "sd1-plain"},
        Case{.name = "sd1_plain_eta", .model = "sd1-plain", .eta = 0.5},
        Case{.name = "sd1_guided", .model = "sd1-guided", .guidance = 7.5},
        Case{.name = "sd1_whole_schedule", .model = "sd1-guided", .guidance = 7.5, .strength = 1.0},
        Case{.name = "sd1_some_prompts_empty",
             .model = "sd1-guided",
             .guidance = 7.5,
             .same_tokens = {false, true, false, true}},
        Case{.name = "sd1_all_prompts_empty",
             .model = "sd1-guided",
             .guidance = 7.5,
             .same_tokens = {true, true, true, true}},
        Case{.name = "sd2_plain", .model = "sd2-guided"},
        Case{.name = "sd2_guided_eta", .model = "sd2-guided", .guidance = 7.5, .eta = 0.5},
        Case{.name = "sd2_rescaled", .model = "sd2-rescaled", .guidance = 7.5, .rescale = 0.7},
        Case{.name = "demo_plain", .model = "demo"},
        Case{.name = "demo_guided", .model = "demo", .guidance = 7.5},
        Case{.name = "demo_bf16", .model = "demo", .dtype = at::kBFloat16}),
    CaseName);

TEST(SampleGradients, HandsOutOnceWhatItWasGiven) {
  SampleGradients store;
  store.Put(3, at::ones({2, 5}));
  EXPECT_THROW(store.Put(3, at::ones({2, 5})), std::invalid_argument);
  EXPECT_THROW(store.Take(2), std::invalid_argument);
  EXPECT_EQ(store.Take(3).sum().item<float>(), 10);
  EXPECT_THROW(store.Take(3), std::invalid_argument);
}

TEST(AddWeighted, WeighsByTheClampedAdvantage) {
  const at::Tensor gradients_BP = at::tensor({1.0F, 0.0F, 0.0F, 1.0F}).view({2, 2});
  const at::Tensor sum_P = at::zeros({2});
  AddWeighted(gradients_BP, at::tensor({8.0F, -1.0F}), PpoOptions{.adv_clip_max = 5}, 0.5, sum_P);
  EXPECT_TRUE(sum_P.equal(at::tensor({-1.25F, 0.25F}))) << sum_P;
  EXPECT_THROW(AddWeighted(gradients_BP, at::ones({3}), PpoOptions(), 1, sum_P),
               std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
