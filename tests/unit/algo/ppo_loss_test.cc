#include "trainer/algo/ppo_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace imageddpo {
namespace {

LossInputs Fresh(const at::Tensor& log_prob_B, const at::Tensor& recorded_B,
                 const at::Tensor& advantages_B) {
  return {
      .log_prob_B = log_prob_B, .recorded_log_prob_B = recorded_B, .advantages_B = advantages_B};
}

LossInputs Stale(const at::Tensor& log_prob_B, const at::Tensor& proximal_B,
                 const at::Tensor& recorded_B, const at::Tensor& advantages_B, int64_t age) {
  return {.log_prob_B = log_prob_B,
          .recorded_log_prob_B = recorded_B,
          .proximal_log_prob_B = proximal_B,
          .advantages_B = advantages_B,
          .age = age};
}

TEST(PpoLoss, AtRatioOneTheGradientIsMinusTheClampedAdvantage) {
  const at::Tensor old = at::randn({4});
  const at::Tensor log_prob = old.clone().requires_grad_();
  const at::Tensor advantages = at::tensor({-9.0F, -1.0F, 2.0F, 7.0F});
  const LossResult result = PpoLoss().Loss(Fresh(log_prob, old, advantages));
  EXPECT_TRUE(at::equal(result.ratio_B, at::ones({4})));
  EXPECT_EQ(result.approx_kl.item<float>(), 0.0F);
  EXPECT_EQ(result.clipfrac.item<float>(), 0.0F);
  EXPECT_FLOAT_EQ(result.loss.item<float>(), -(-5 - 1 + 2 + 5) / 4.0F);
  result.loss.backward();
  EXPECT_TRUE(at::allclose(log_prob.grad(), at::tensor({5.0F, 1.0F, -2.0F, -5.0F}) / 4));
}

TEST(PpoLoss, TheGradientStopsWhereTheStepWentFarEnough) {
  const at::Tensor old = at::zeros({4});
  const at::Tensor log_prob = at::tensor({0.1F, 0.1F, -0.1F, -0.1F}).requires_grad_();
  const at::Tensor advantages = at::tensor({1.0F, -1.0F, 1.0F, -1.0F});
  const LossResult result =
      PpoLoss({.clip_range = {.low = 0.05, .high = 0.05}}).Loss(Fresh(log_prob, old, advantages));
  result.loss.backward();
  // Advantage above 0 and ratio above the clip range, or both below: no gradient. The other two
  // samples have one.
  const at::Tensor expected = at::tensor({0.0F, std::exp(0.1F), -std::exp(-0.1F), 0.0F}) / 4;
  EXPECT_TRUE(at::allclose(log_prob.grad(), expected));
  EXPECT_EQ(result.clipfrac.item<float>(), 1.0F);
  EXPECT_NEAR(result.approx_kl.item<double>(), 0.005, 1e-7);
  EXPECT_FALSE(result.approx_kl.requires_grad());
  EXPECT_FALSE(result.ratio_B.requires_grad());
}

TEST(PpoLoss, TheTwoSidesOfTheClipCanDiffer) {
  const at::Tensor old = at::zeros({6});
  const at::Tensor ratio = at::tensor({1.25F, 1.25F, 1.15F, 0.85F, 0.85F, 0.95F});
  const at::Tensor log_prob = ratio.log().requires_grad_();
  const at::Tensor advantages = at::tensor({1.0F, -1.0F, 1.0F, -1.0F, 1.0F, -1.0F});
  const LossResult result =
      PpoLoss({.clip_range = {.low = 0.1, .high = 0.2}}).Loss(Fresh(log_prob, old, advantages));
  result.loss.backward();
  // Above 1.2 with a good advantage and below 0.9 with a bad one there is no gradient.
  const at::Tensor expected = at::tensor({0.0F, 1.25F, -1.15F, 0.0F, -0.85F, 0.95F}) / 6;
  EXPECT_TRUE(at::allclose(log_prob.grad(), expected)) << log_prob.grad();
  EXPECT_NEAR(result.loss.item<double>(), (-1.2 + 1.25 - 1.15 + 0.9 - 0.85 + 0.95) / 6, 1e-6);
  EXPECT_FLOAT_EQ(result.clipfrac.item<float>(), 4.0F / 6);
  EXPECT_FLOAT_EQ(result.clipped_high.item<float>(), 2.0F / 6);
  EXPECT_FLOAT_EQ(result.clipped_low.item<float>(), 2.0F / 6);
}

TEST(PpoLoss, AtSamplingIsItsLossAndDerivativeAtRatioOne) {
  const PpoLoss rule({.adv_clip_max = 0.7});  // No binary fraction.
  const at::Tensor advantages = at::tensor({-9.0F, -0.5F, 0.25F, 7.0F});
  const at::Tensor log_prob = at::randn({4}).requires_grad_();
  const LossResult replayed = rule.Loss(Fresh(log_prob, log_prob.detach(), advantages));
  replayed.loss.backward();
  const OnPolicyLoss found = rule.LossAtSampling(advantages);
  EXPECT_EQ(found.loss, replayed.loss.item<double>());
  EXPECT_EQ(found.derivative_B, (std::vector<double>{0.7, 0.5, -0.25, -0.7}));
  EXPECT_TRUE(at::allclose(log_prob.grad() * 4, at::tensor(found.derivative_B, at::kFloat)));
}

TEST(PpoLoss, RefusesLengthsThatDiffer) {
  const at::Tensor two = at::zeros({2});
  EXPECT_THROW(PpoLoss().Loss(Fresh(two, at::zeros({3}), two)), std::invalid_argument);
  EXPECT_THROW(PpoLoss().Loss(Fresh(two, two, at::zeros({1}))), std::invalid_argument);
}

/// The documented formula and its derivative with respect to log p, in double for one sample.
struct LossByHand {
  LossByHand(double log_prob, double proximal, double behaviour, double advantage, int64_t age,
             const PpoOptions& options) {
    const double a = std::clamp(advantage, -options.adv_clip_max, options.adv_clip_max);
    const double b = std::exp(proximal - behaviour);
    const double w = std::min(b, options.staleness_weight_cap);
    const double u = std::exp(log_prob - proximal);
    const double times = 1.0 + static_cast<double>(age);
    const double clip_high = options.clip_range.high, clip_low = options.clip_range.low;
    const double high = std::min(1 + clip_high, (1 + times * clip_high) / b);
    const double low = std::max(1 - clip_low, (1 - times * clip_low) / b);
    is_done = a > 0 ? u > high : u < low;
    loss = w * -a * (is_done ? (a > 0 ? high : low) : u);
    derivative = is_done ? 0 : -w * a * u;
  }
  bool is_done;
  double loss, derivative;
};

class StalePpoLossOf : public testing::TestWithParam<PpoOptions> {};

TEST_P(StalePpoLossOf, IsTheFormulaWithItsGradient) {
  const PpoOptions options = GetParam();
  std::vector<float> log_prob, proximal, behaviour, advantage;
  for (const float to_proximal : {-0.3F, -0.02F, 0.0F, 0.05F, 0.4F}) {
    for (const float to_behaviour : {-1.0F, -0.1F, 0.0F, 0.3F, 0.9F}) {
      for (const float a : {-3.0F, -0.5F, 0.0F, 1.0F, 2.5F}) {
        behaviour.push_back(-1.5F);
        proximal.push_back(-1.5F + to_behaviour);
        log_prob.push_back(-1.5F + to_behaviour + to_proximal);
        advantage.push_back(a);
      }
    }
  }
  const auto n = static_cast<int64_t>(log_prob.size());
  const at::Tensor log_prob_B = at::tensor(log_prob).requires_grad_();
  const at::Tensor proximal_B = at::tensor(proximal).requires_grad_();
  const LossResult result = PpoLoss(options).Loss(
      Stale(log_prob_B, proximal_B, at::tensor(behaviour), at::tensor(advantage), /*age=*/2));
  result.loss.backward();
  EXPECT_FALSE(proximal_B.grad().defined()) << "the weight has a gradient";
  double loss = 0;
  for (int64_t i = 0; i < n; ++i) {
    const LossByHand by_hand(log_prob[i], proximal[i], behaviour[i], advantage[i], 2, options);
    loss += by_hand.loss / static_cast<double>(n);
    EXPECT_NEAR(log_prob_B.grad()[i].item<double>() * static_cast<double>(n), by_hand.derivative,
                1e-5)
        << "sample " << i;
    EXPECT_NEAR(result.behaviour_ratio_B[i].item<double>(), std::exp(proximal[i] - behaviour[i]),
                1e-6)
        << "not truncated";
    EXPECT_NEAR(result.ratio_B[i].item<double>(), std::exp(log_prob[i] - proximal[i]), 1e-6);
  }
  EXPECT_NEAR(result.loss.item<double>(), loss, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Clips, StalePpoLossOf,
                         testing::Values(PpoOptions{.clip_range = {.low = 0.1, .high = 0.1},
                                                    .adv_clip_max = 2,
                                                    .staleness_weight_cap = 1.5},
                                         PpoOptions{.clip_range = {.low = 0.03, .high = 0.2},
                                                    .adv_clip_max = 2,
                                                    .staleness_weight_cap = 1.5}),
                         [](const auto& info) {
                           return info.index == 0 ? "OneRange" : "TwoSides";
                         });

TEST(StalePpoLoss, ASampleThatEarlierEpochsMovedFarEnoughTeachesNoMore) {
  // Clip range 0.1 and age 1: a sample with an advantage above 0 has no gradient once its ratio to
  // the policy that drew it exceeds 1.2; one with an advantage below 0 still has one, as has one
  // whose ratio has fallen. The ratio to the proximal policy is 1 everywhere.
  const at::Tensor proximal = at::log(at::tensor({1.25F, 1.25F, 0.75F, 0.75F, 1.15F}));
  const at::Tensor log_prob = proximal.clone().requires_grad_();
  const at::Tensor advantages = at::tensor({1.0F, -1.0F, 1.0F, -1.0F, 1.0F});
  const LossResult result = PpoLoss({.clip_range = {.low = 0.1, .high = 0.1}})
                                .Loss(Stale(log_prob, proximal, at::zeros({5}), advantages, 1));
  result.loss.backward();
  const at::Tensor expected = at::tensor({0.0F, 1.25F, -0.75F, 0.0F, -1.15F}) / 5;
  EXPECT_TRUE(at::allclose(log_prob.grad(), expected)) << log_prob.grad();
}

TEST(StalePpoLoss, WithFreshSamplesIsThatOfFreshOnesBitForBit) {
  const at::Tensor old = at::randn({64});
  const at::Tensor advantages = at::randn({64}) * 3;
  const at::Tensor noise = at::randn({64}) * 1e-3;
  const at::Tensor one = (old + noise).requires_grad_(), two = (old + noise).requires_grad_();
  const PpoLoss rule({.clip_range = {.low = 1e-3, .high = 1e-3}});
  const LossResult plain = rule.Loss(Fresh(one, old, advantages));
  const LossResult decoupled = rule.Loss(Stale(two, old, old, advantages, 0));
  plain.loss.backward();
  decoupled.loss.backward();
  EXPECT_TRUE(at::equal(plain.loss, decoupled.loss));
  EXPECT_TRUE(at::equal(one.grad(), two.grad()));
  EXPECT_TRUE(at::equal(plain.approx_kl, decoupled.approx_kl));
  EXPECT_TRUE(at::equal(plain.clipfrac, decoupled.clipfrac));
  EXPECT_TRUE(at::equal(plain.ratio_B, decoupled.ratio_B));
  EXPECT_TRUE(at::equal(decoupled.behaviour_ratio_B, at::ones({64})));
  EXPECT_FALSE(plain.behaviour_ratio_B.defined());
}

TEST(StalePpoLoss, RefusesLengthsThatDifferAndANegativeAge) {
  const at::Tensor two = at::zeros({2}), three = at::zeros({3});
  EXPECT_THROW(PpoLoss().Loss(Stale(two, three, two, two, 0)), std::invalid_argument);
  EXPECT_THROW(PpoLoss().Loss(Stale(two, two, three, two, 0)), std::invalid_argument);
  EXPECT_THROW(PpoLoss().Loss(Stale(two, two, two, three, 0)), std::invalid_argument);
  EXPECT_THROW(PpoLoss().Loss(Stale(two, two, two, two, -1)), std::invalid_argument);
}

/// The documented formula of the divergence mask and its derivative, in double for one sample.
struct MaskedByHand {
  MaskedByHand(double log_prob, double proximal, double recorded, double advantage, double kl,
               int64_t age, const PpoOptions& options) {
    const double a = std::clamp(advantage, -options.adv_clip_max, options.adv_clip_max);
    const double weight = std::min(std::exp(proximal - recorded), options.staleness_weight_cap);
    const double times = 1.0 + static_cast<double>(age);
    const bool moves_away = a > 0 ? log_prob > recorded : a < 0 && log_prob < recorded;
    is_blocked = moves_away && kl > times * times * options.kl_limit;
    loss = derivative = is_blocked ? 0 : weight * -a * std::exp(log_prob - proximal);
  }
  bool is_blocked;
  double loss, derivative;
};

constexpr PpoOptions kMask{.adv_clip_max = 2,
                           .staleness_weight_cap = 1.2,
                           .trust_region = TrustRegion::kKl,
                           .kl_limit = 0.1};

TEST(DivergenceMask, IsTheFormulaWithItsGradientForFreshAndStaleSamples) {
  std::vector<float> log_prob, proximal, recorded, advantage, kl;
  for (const float to_proximal : {-0.35F, -0.02F, 0.05F, 0.4F}) {  // Nowhere back to recorded.
    for (const float to_recorded : {-1.0F, -0.1F, 0.3F}) {
      for (const float a : {-3.0F, -0.5F, 0.0F, 1.0F, 2.5F}) {
        for (const float divergence : {0.0F, 0.09F, 0.11F, 0.89F, 0.91F, 5.0F}) {
          recorded.push_back(-1.5F);
          proximal.push_back(-1.5F + to_recorded);
          log_prob.push_back(-1.5F + to_recorded + to_proximal);
          advantage.push_back(a);
          kl.push_back(divergence);
        }
      }
    }
  }
  const auto n = static_cast<int64_t>(log_prob.size());
  for (const bool is_stale : {false, true}) {
    const int64_t age = is_stale ? 2 : 0;  // At age 2 the limit is 0.9.
    const std::vector<float>& start = is_stale ? proximal : recorded;
    const at::Tensor log_prob_B = at::tensor(log_prob).requires_grad_();
    LossInputs inputs = Fresh(log_prob_B, at::tensor(recorded), at::tensor(advantage));
    if (is_stale) inputs.proximal_log_prob_B = at::tensor(proximal);
    inputs.kl_to_recorded_B = at::tensor(kl);
    inputs.age = age;
    const LossResult result = PpoLoss(kMask).Loss(inputs);
    result.loss.backward();
    double loss = 0, blocked = 0;
    for (int64_t i = 0; i < n; ++i) {
      const MaskedByHand by_hand(log_prob[i], start[i], recorded[i], advantage[i], kl[i], age,
                                 kMask);
      loss += by_hand.loss / static_cast<double>(n);
      blocked += by_hand.is_blocked ? 1 : 0;
      EXPECT_NEAR(log_prob_B.grad()[i].item<double>() * static_cast<double>(n), by_hand.derivative,
                  1e-5)
          << "sample " << i;
    }
    EXPECT_NEAR(result.loss.item<double>(), loss, 1e-6);
    EXPECT_GT(blocked, 0);
    EXPECT_NEAR(result.masked.item<double>(), blocked / static_cast<double>(n), 1e-6);
    EXPECT_EQ(result.behaviour_ratio_B.defined(), is_stale);
  }
}

TEST(DivergenceMask, OnlyWhatLeadsFurtherAwayIsBlocked) {
  // Beyond the limit, above and below the policy that drew the sample, with a good and a bad
  // advantage; then the first of them within the limit.
  const at::Tensor log_prob = at::tensor({0.1F, 0.1F, -0.1F, -0.1F, 0.1F}).requires_grad_();
  LossInputs inputs = Fresh(log_prob, at::zeros({5}), at::tensor({1.0F, -1.0F, 1.0F, -1.0F, 1.0F}));
  inputs.kl_to_recorded_B = at::tensor({0.2F, 0.2F, 0.2F, 0.2F, 0.05F});
  const LossResult result = PpoLoss(kMask).Loss(inputs);
  result.loss.backward();
  const float up = std::exp(0.1F), down = std::exp(-0.1F);
  EXPECT_TRUE(at::allclose(log_prob.grad(), at::tensor({0.0F, up, -down, 0.0F, -up}) / 5));
  EXPECT_FLOAT_EQ(result.masked.item<float>(), 0.4F);
  EXPECT_EQ(result.clipfrac.item<float>(), 1.0F) << "the ratios are counted all the same";
  EXPECT_FALSE(result.masked.requires_grad());
  EXPECT_FALSE(PpoLoss().Loss(inputs).masked.defined());
}

TEST(DivergenceMask, WithFreshSamplesTheStaleLossHasTheSameBits) {
  const at::Tensor old = at::randn({64}), advantages = at::randn({64}) * 3;
  const at::Tensor noise = at::randn({64}) * 1e-1, kl = at::rand({64}) * 0.2;
  const at::Tensor one = (old + noise).requires_grad_(), two = (old + noise).requires_grad_();
  LossInputs fresh = Fresh(one, old, advantages), stale = Stale(two, old, old, advantages, 0);
  fresh.kl_to_recorded_B = stale.kl_to_recorded_B = kl;
  const LossResult plain = PpoLoss(kMask).Loss(fresh), decoupled = PpoLoss(kMask).Loss(stale);
  plain.loss.backward();
  decoupled.loss.backward();
  EXPECT_GT(plain.masked.item<double>(), 0);
  EXPECT_TRUE(at::equal(plain.loss, decoupled.loss));
  EXPECT_TRUE(at::equal(plain.masked, decoupled.masked));
  EXPECT_TRUE(at::equal(one.grad(), two.grad()));
}

TEST(TermOfTheBase, IsAddedToEachLossExceptOfSamplesThatAreLeftOut) {
  const at::Tensor advantages = at::tensor({1.0F, -2.0F, 0.0F, 3.0F});
  const at::Tensor old = at::randn({4}), kl = at::tensor({0.5F, 0.25F, 8.0F, 2.0F});
  for (const TrustRegion region : {TrustRegion::kRatio, TrustRegion::kKl}) {
    for (const bool is_stale : {false, true}) {
      const at::Tensor one = old.clone().requires_grad_(), two = old.clone().requires_grad_();
      const at::Tensor to_base = kl.clone().requires_grad_();
      const auto inputs_of = [&](const at::Tensor& log_prob) {
        LossInputs inputs = Fresh(log_prob, old, advantages);
        if (is_stale) inputs.proximal_log_prob_B = old;
        inputs.kl_to_recorded_B = at::zeros({4});
        inputs.kl_to_base_B = to_base;
        inputs.is_kept_B = at::tensor({1, 1, 0, 1}).to(at::kBool);
        return inputs;
      };
      const LossResult without = PpoLoss({.trust_region = region}).Loss(inputs_of(one));
      const LossResult with =
          PpoLoss({.trust_region = region, .kl_coef = 0.4}).Loss(inputs_of(two));
      without.loss.backward();
      EXPECT_FALSE(to_base.grad().defined()) << "at 0 there is no such term";
      with.loss.backward();
      EXPECT_NEAR((with.loss - without.loss).item<double>(), 0.4 * (0.5 + 0.25 + 2) / 4, 1e-6);
      EXPECT_TRUE(at::equal(one.grad(), two.grad()));
      EXPECT_TRUE(at::allclose(to_base.grad(), at::tensor({0.1F, 0.1F, 0.0F, 0.1F})));
    }
  }
}

TEST(TermOfTheBase, WithoutLeftOutSamplesItIsTheMeanOfAll) {
  LossInputs inputs = Fresh(at::zeros({2}), at::zeros({2}), at::zeros({2}));
  inputs.kl_to_base_B = at::tensor({1.0F, 2.0F});
  EXPECT_NEAR(PpoLoss({.kl_coef = 0.2}).Loss(inputs).loss.item<double>(), 0.3, 1e-6);
}

TEST(PpoLoss, RefusesToDoWithoutTheDivergencesThatItNeeds) {
  const at::Tensor two = at::zeros({2});
  LossInputs inputs = Fresh(two, two, two);
  EXPECT_THROW(PpoLoss(kMask).Loss(inputs), std::invalid_argument);
  EXPECT_THROW(PpoLoss({.kl_coef = 1}).Loss(inputs), std::invalid_argument);
  inputs.kl_to_recorded_B = inputs.kl_to_base_B = at::zeros({3});
  EXPECT_THROW(PpoLoss(kMask).Loss(inputs), std::invalid_argument);
  EXPECT_THROW(PpoLoss({.kl_coef = 1}).Loss(inputs), std::invalid_argument);
  inputs.is_kept_B = at::ones({3}, at::kBool);
  EXPECT_THROW(PpoLoss().Loss(inputs), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
