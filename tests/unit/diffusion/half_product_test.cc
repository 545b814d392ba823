#include "common/diffusion/half_product.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "common/diffusion/layers.h"
#include "common/diffusion/processor.h"

namespace imageddpo {
namespace {

/// These are this processor's own instructions: without them there is nothing to run.
class HalfProduct : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasHalfArithmetic()) GTEST_SKIP() << "this processor lacks AVX512-FP16";
  }
};

struct HalfCase {
  const char* name;
  int64_t in_features, out_features, batch, positions;
  bool bias = true;
};

class HalfShapes : public HalfProduct, public testing::WithParamInterface<HalfCase> {};

/// Largest distances from a layer in double precision, of y and of x's gradient, relative to their
/// norms. @param channels  images, whose features are their channels.
double Distance(const HalfCase& c, bool channels, double x_scale) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({c.out_features, c.in_features}).to(at::kBFloat16);
  const at::Tensor bias = c.bias ? at::randn({c.out_features}).to(at::kBFloat16) : at::Tensor();
  const at::Tensor x = (at::randn({c.batch, c.positions, c.in_features}) * x_scale)
                           .to(at::kBFloat16)
                           .requires_grad_(true);
  const at::Tensor exact_x = x.detach().to(at::kDouble).requires_grad_(true);
  const at::Tensor y = channels
                           ? HalfChannelsLinear(x.transpose(1, 2), weight, bias).transpose(1, 2)
                           : HalfLinear(x, weight, bias);
  const at::Tensor exact_y =
      at::linear(exact_x, weight.to(at::kDouble), c.bias ? bias.to(at::kDouble) : at::Tensor());
  EXPECT_EQ(y.sizes(), exact_y.sizes());
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const at::Tensor y_grad = (at::randn(y.sizes()) * x_scale).to(at::kBFloat16);
  y.backward(y_grad);
  exact_y.backward(y_grad.to(at::kDouble));
  double largest = 0;
  for (const auto& [ours, exact] : {std::pair(y, exact_y), std::pair(x.grad(), exact_x.grad())}) {
    largest = std::max(largest, ((ours - exact).norm() / exact.norm()).item<double>());
  }
  return largest;
}

TEST_P(HalfShapes, AreThoseOfDoublePrecision) {
  // The rounding of the result is 1.7e-3, that of the sums within 1.2e-3 more, and at most 2^-8 of
  // a single value.
  const double most = GetParam().positions > 1 ? 2.3e-3 : std::exp2(-8);
  for (const bool channels : {false, true}) {
    for (const double x_scale : {1.0, 1e-30, 1e-6, 1e6, 1e30}) {
      EXPECT_LT(Distance(GetParam(), channels, x_scale), most)
          << (channels ? "channels" : "features") << " of " << x_scale;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, HalfShapes,
                         testing::Values(HalfCase{"more_tokens", 320, 384, 2, 1024},
                                         HalfCase{"more_features", 640, 1280, 2, 64},
                                         HalfCase{"small_images", 640, 320, 5, 16},
                                         HalfCase{"no_bias", 320, 320, 2, 256, /*bias=*/false},
                                         HalfCase{"nothing_even", 77, 131, 3, 43},
                                         HalfCase{"one_of_each", 1, 1, 1, 1},
                                         HalfCase{"deep", 5120, 64, 2, 64}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(HalfProduct, TokensOfVeryDifferentSizeAreEachExact) {
  at::manual_seed(1);
  const at::Tensor size = at::pow(2.0, at::arange(18) - 9.0).unsqueeze(1);
  const at::Tensor x = (at::randn({18, 320}) * size).to(at::kBFloat16);
  const at::Tensor weight = at::randn({128, 320}).to(at::kBFloat16);
  const at::Tensor exact = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
  const at::Tensor error = (HalfLinear(x, weight, {}) - exact).norm(2, {1}) / exact.norm(2, {1});
  EXPECT_LT(error.max().item<double>(), 3e-3) << error;
}

TEST_F(HalfProduct, TheSameBitsAgainWhateverCameBetween) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({640, 320}).to(at::kBFloat16);
  const at::Tensor x = at::randn({2, 256, 320}).to(at::kBFloat16);
  const at::Tensor once = HalfLinear(x, weight, {});
  HalfLinear(at::randn({999, 640}).to(at::kBFloat16), at::randn({64, 640}).to(at::kBFloat16), {});
  EXPECT_TRUE(at::equal(once, HalfLinear(x, weight, {})));
}

TEST_F(HalfProduct, WhatIsNotFiniteIsNotHidden) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    at::Tensor x = at::ones({32, 64}, at::kBFloat16);
    x[7][5] = bad;
    const at::Tensor y = HalfLinear(x, at::ones({96, 64}, at::kBFloat16), {});
    EXPECT_FALSE(at::isfinite(y[7]).any().item<bool>());
  }
  // Finite factors, but no finite product.
  const at::Tensor large = at::full({32, 64}, 1e38, at::kBFloat16);
  EXPECT_TRUE(at::isinf(HalfLinear(large, large, {})).all().item<bool>());
}

TEST_F(HalfProduct, WithoutGradientsThereIsNoGraph) {
  const at::Tensor weight = at::ones({64, 64}, at::kBFloat16);
  const at::Tensor x = at::ones({32, 64}, at::kBFloat16).requires_grad_(true);
  EXPECT_TRUE(HalfLinear(x, weight, {}).requires_grad());
  EXPECT_FALSE(HalfLinear(x.detach(), weight, {}).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(HalfLinear(x, weight, {}).requires_grad());
}

TEST(HalfProductLayers, TakeItWhereItServes) {
  const bool here = PrefersHalfArithmetic();
  const auto serves = [](at::ScalarType dtype, int64_t tokens, int64_t in, int64_t out) {
    return IsHalfProduct(at::empty({tokens, in}, dtype), tokens, at::empty({out, in}, dtype));
  };
  EXPECT_EQ(serves(at::kBFloat16, 2048, 320, 320), here);
  EXPECT_EQ(serves(at::kBFloat16, 1024, 64, 64), here);
  EXPECT_FALSE(serves(at::kFloat, 2048, 320, 320)) << "Another dtype.";
  EXPECT_FALSE(serves(at::kHalf, 2048, 320, 320)) << "Another dtype.";
  EXPECT_FALSE(serves(at::kBFloat16, 2, 1280, 1280)) << "Few tokens: an embedding of timesteps.";
  EXPECT_FALSE(serves(at::kBFloat16, 2048, 320, 4)) << "Few features.";

  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 128, 8, 8}).to(at::kBFloat16);
  const Linear linear = {.weight_OI = at::randn({96, 8}).to(at::kBFloat16).repeat({1, 8}),
                         .bias_O = at::randn({96}).to(at::kBFloat16),
                         .lora = std::make_shared<LoraSlot>()};
  const at::Tensor tokens = x.view({-1, 64});
  EXPECT_TRUE(at::equal(linear.Forward(tokens),
                        here ? HalfLinear(tokens, linear.weight_OI, linear.bias_O)
                             : at::linear(tokens, linear.weight_OI, linear.bias_O)));
  const Conv2d conv = {.weight_OIHW = at::randn({96, 128, 1, 1}).to(at::kBFloat16),
                       .bias_O = at::randn({96}).to(at::kBFloat16)};
  EXPECT_TRUE(
      at::equal(conv.Forward(x).flatten(2),
                here ? HalfChannelsLinear(x.flatten(2), conv.weight_OIHW.flatten(1), conv.bias_O)
                     : at::conv2d(x, conv.weight_OIHW, conv.bias_O).flatten(2)));
}

}  // namespace
}  // namespace imageddpo
