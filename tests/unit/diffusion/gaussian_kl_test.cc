#include "common/diffusion/gaussian_kl.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace imageddpo {
namespace {

TEST(GaussianKl, IsTheFormulaWithItsGradient) {
  const at::Tensor other = at::randn({3, 2, 4, 5});
  const at::Tensor mean = (other + 0.1 * at::randn({3, 2, 4, 5})).requires_grad_();
  const at::Tensor sigma = at::tensor({0.5F, 0.01F, 2.0F});
  const at::Tensor kl = GaussianKl(mean, other, sigma);
  ASSERT_EQ(kl.sizes(), at::IntArrayRef{3});
  kl.sum().backward();
  for (int64_t i = 0; i < 3; ++i) {
    const double variance = sigma[i].item<double>() * sigma[i].item<double>();
    const at::Tensor distance = mean.detach()[i].to(at::kDouble) - other[i].to(at::kDouble);
    const double expected = distance.pow(2).sum().item<double>() / (2 * variance);
    EXPECT_NEAR(kl[i].item<double>(), expected, 1e-5 * expected);
    const at::Tensor gradient = distance / variance;
    EXPECT_LT((mean.grad()[i].to(at::kDouble) - gradient).norm().item<double>(),
              1e-5 * gradient.norm().item<double>());
  }
}

TEST(GaussianKl, IsExactlyZeroForEqualMeansWhateverTheirLayout) {
  const at::Tensor mean = at::randn({2, 4, 3, 3});
  const at::Tensor kl =
      GaussianKl(mean, mean.contiguous(at::MemoryFormat::ChannelsLast), at::full({2}, 1e-3));
  EXPECT_TRUE(kl.equal(at::zeros({2})));
}

TEST(GaussianKl, DeterministicStepsHaveNoneAndNoGradient) {
  const at::Tensor mean = at::randn({2, 1, 2, 2}).requires_grad_();
  const at::Tensor kl = GaussianKl(mean, at::zeros({2, 1, 2, 2}), at::tensor({0.0F, 1.0F}));
  EXPECT_EQ(kl[0].item<float>(), 0.0F);
  EXPECT_GT(kl[1].item<float>(), 0.0F);
  kl.sum().backward();
  EXPECT_TRUE(mean.grad()[0].equal(at::zeros({1, 2, 2})));
  EXPECT_TRUE(mean.grad()[1].equal(mean.detach()[1]));
}

TEST(GaussianKl, RefusesOtherSteps) {
  const at::Tensor mean = at::zeros({2, 1, 2, 2}), sigma = at::ones({2});
  EXPECT_THROW(GaussianKl({}, mean, sigma), std::invalid_argument) << "not Gaussian";
  EXPECT_THROW(GaussianKl(mean, at::zeros({2, 1, 2, 3}), sigma), std::invalid_argument);
  EXPECT_THROW(GaussianKl(mean, mean, at::ones({3})), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
