// The single pass against the replay: the same samples, bit for bit, and the same gradients.
#include "trainer/loop/single_pass_update.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "tests/unit/loop/small_policy.h"
#include "trainer/algo/ppo_loss.h"

namespace imageddpo {
namespace {

constexpr int64_t kBatch = SmallPolicy::kBatch;

class SinglePassTest : public testing::TestWithParam<SmallPolicyCase> {
 protected:
  std::unique_ptr<LogProbGradients> Collector() { return small_.Collector(); }
  SampledTrajectories Sample(LogProbGradients* gradients) { return small_.Sample(gradients); }

  SmallPolicy small_{GetParam()};
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
  for (const at::Tensor& parameter : small_.lora.Parameters())
    EXPECT_FALSE(parameter.grad().defined());

  const ReplayBatch batch = small_.Batch(sampled);
  const int64_t num_steps = batch.timesteps_BK.size(1);
  const double weight = 1.0 / static_cast<double>(num_steps);
  const PpoLoss loss;
  ReplayUpdate replay(*small_.policy, small_.lora.Parameters(), loss);
  const std::vector<StepStatistics> expected_steps = StatisticsOf(replay.Accumulate(batch, weight));
  const at::Tensor expected_P = replay.TakeGradient();
  SinglePassUpdate single_pass(&store, loss);
  const std::vector<StepStatistics> steps =
      StatisticsOf(single_pass.Accumulate(0, batch.advantages_B, num_steps, weight));
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
  const std::vector<at::Tensor> expected = SplitLike(expected_P, small_.lora.Parameters());
  const std::vector<at::Tensor> found = SplitLike(found_P, small_.lora.Parameters());
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
  small_.inputs.init_noise_BCHW[kBatch - 1].normal_();
  collector = Collector();
  Sample(collector.get());
  const at::Tensor changed_BP = collector->Take();
  EXPECT_TRUE(changed_BP.narrow(0, 0, kBatch - 1).equal(gradients_BP.narrow(0, 0, kBatch - 1)));
  EXPECT_FALSE(changed_BP[kBatch - 1].equal(gradients_BP[kBatch - 1]));
}

std::string CaseName(const testing::TestParamInfo<SmallPolicyCase>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SinglePassTest,
    testing::Values(
        SmallPolicyCase{.name = "sd1_plain", .model = "sd1-plain"},
        SmallPolicyCase{.name = "sd1_plain_eta", .model = "sd1-plain", .eta = 0.5},
        SmallPolicyCase{.name = "sd1_guided", .model = "sd1-guided", .guidance = 7.5},
        SmallPolicyCase{
            .name = "sd1_whole_schedule", .model = "sd1-guided", .guidance = 7.5, .strength = 1.0},
        SmallPolicyCase{.name = "sd1_some_prompts_empty",
                        .model = "sd1-guided",
                        .guidance = 7.5,
                        .same_tokens = {false, true, false, true}},
        SmallPolicyCase{.name = "sd1_all_prompts_empty",
                        .model = "sd1-guided",
                        .guidance = 7.5,
                        .same_tokens = {true, true, true, true}},
        SmallPolicyCase{.name = "sd2_plain", .model = "sd2-guided"},
        SmallPolicyCase{
            .name = "sd2_guided_eta", .model = "sd2-guided", .guidance = 7.5, .eta = 0.5},
        SmallPolicyCase{
            .name = "sd2_rescaled", .model = "sd2-rescaled", .guidance = 7.5, .rescale = 0.7},
        SmallPolicyCase{.name = "demo_plain", .model = "demo"},
        SmallPolicyCase{.name = "demo_guided", .model = "demo", .guidance = 7.5},
        SmallPolicyCase{.name = "demo_bf16", .model = "demo", .dtype = at::kBFloat16}),
    CaseName);

TEST(SampleGradients, HandsOutOnceWhatItWasGiven) {
  SampleGradients store;
  store.Put(3, at::ones({2, 5}));
  EXPECT_THROW(store.Put(3, at::ones({2, 5})), std::invalid_argument);
  EXPECT_THROW(store.Take(2), std::invalid_argument);
  EXPECT_EQ(store.Take(3).sum().item<float>(), 10);
  EXPECT_THROW(store.Take(3), std::invalid_argument);
}

TEST(AddWeighted, WeighsByTheDerivative) {
  const at::Tensor gradients_BP = at::tensor({1.0F, 0.0F, 0.0F, 1.0F}).view({2, 2});
  const at::Tensor sum_P = at::zeros({2});
  AddWeighted(gradients_BP, {-5.0, 1.0}, 0.5, sum_P);
  EXPECT_TRUE(sum_P.equal(at::tensor({-1.25F, 0.25F}))) << sum_P;
  EXPECT_THROW(AddWeighted(gradients_BP, {1, 1, 1}, 1, sum_P), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
