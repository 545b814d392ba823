#include "trainer/algo/loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace imageddpo {
namespace {

TEST(PpoLoss, AtRatioOneTheGradientIsMinusTheClampedAdvantage) {
  const at::Tensor old = at::randn({4});
  const at::Tensor log_prob = old.clone().requires_grad_();
  const at::Tensor advantages = at::tensor({-9.0F, -1.0F, 2.0F, 7.0F});
  const PpoLossResult result = PpoLoss(log_prob, old, advantages, {});
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
  const PpoLossResult result = PpoLoss(log_prob, old, advantages, {.clip_range = 0.05});
  result.loss.backward();
  // A good sample made likelier, a bad one made rarer: done. The other two still teach.
  const at::Tensor expected = at::tensor({0.0F, std::exp(0.1F), -std::exp(-0.1F), 0.0F}) / 4;
  EXPECT_TRUE(at::allclose(log_prob.grad(), expected));
  EXPECT_EQ(result.clipfrac.item<float>(), 1.0F);
  EXPECT_NEAR(result.approx_kl.item<double>(), 0.005, 1e-7);
  EXPECT_FALSE(result.approx_kl.requires_grad());
  EXPECT_FALSE(result.ratio_B.requires_grad());
}

TEST(PpoLoss, RefusesLengthsThatDiffer) {
  const at::Tensor two = at::zeros({2});
  EXPECT_THROW(PpoLoss(two, at::zeros({3}), two, {}), std::invalid_argument);
  EXPECT_THROW(PpoLoss(two, two, at::zeros({1}), {}), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
