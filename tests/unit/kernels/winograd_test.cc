#include "common/kernels/winograd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>
#include <utility>

#include "common/kernels/processor.h"
#include "common/nn/layers.h"

namespace imageddpo {
namespace {

struct WinogradCase {
  const char* name;
  int64_t in_channels, out_channels, batch, height, width;
  bool bias = true;
};

class WinogradShapes : public testing::TestWithParam<std::tuple<WinogradCase, int64_t>> {};

/// Largest distances from a convolution in double precision, of y and of x's gradient, relative to
/// their norms.
double Distance(const WinogradCase& c, int64_t tile, at::ScalarType dtype) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({c.out_channels, c.in_channels, 3, 3}).to(dtype);
  const at::Tensor bias = c.bias ? at::randn({c.out_channels}).to(dtype) : at::Tensor();
  const at::Tensor x =
      at::randn({c.batch, c.in_channels, c.height, c.width}).to(dtype).requires_grad_(true);
  const at::Tensor exact_x = x.detach().to(at::kDouble).requires_grad_(true);
  const at::Tensor y = WinogradConvolution(x, weight, bias, tile);
  const at::Tensor exact_y =
      at::conv2d(exact_x, weight.to(at::kDouble), c.bias ? bias.to(at::kDouble) : at::Tensor(),
                 /*stride=*/1, /*padding=*/at::IntArrayRef{1, 1});
  EXPECT_EQ(y.sizes(), exact_y.sizes());
  EXPECT_EQ(y.scalar_type(), dtype);
  const at::Tensor y_grad = at::randn(y.sizes()).to(dtype);
  y.backward(y_grad);
  exact_y.backward(y_grad.to(at::kDouble));
  double largest = 0;
  for (const auto& [ours, exact] : {std::pair(y, exact_y), std::pair(x.grad(), exact_x.grad())}) {
    largest = std::max(largest, ((ours - exact).norm() / exact.norm()).item<double>());
  }
  return largest;
}

TEST_P(WinogradShapes, AreThoseOfDoublePrecision) {
  const auto& [c, tile] = GetParam();
  EXPECT_LT(Distance(c, tile, at::kFloat), tile == 2 ? 8e-7 : 5e-6);
  EXPECT_LT(Distance(c, tile, at::kBFloat16), 2e-3) << "One rounding of the result.";
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, WinogradShapes,
    testing::Combine(testing::Values(WinogradCase{"many_channels", 320, 288, 2, 16, 16},
                                     WinogradCase{"many_rows_of_tiles", 128, 32, 2, 130, 132},
                                     WinogradCase{"many_blocks_of_channels", 1280, 640, 2, 16, 16},
                                     WinogradCase{"tiles_over_the_edge", 32, 48, 3, 17, 9,
                                                  /*bias=*/false},
                                     WinogradCase{"less_than_a_tile", 16, 16, 1, 3, 1},
                                     WinogradCase{"one_pixel", 16, 32, 1, 1, 1}),
                     testing::Values(2, 4)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + "_by_" +
             std::to_string(std::get<1>(info.param));
    });

TEST(Winograd, TheSameBitsAgainWhateverCameBetween) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({320, 320, 3, 3}), x = at::randn({2, 320, 16, 16});
  for (const int64_t tile : {2, 4}) {
    const at::Tensor once = WinogradConvolution(x, weight, {}, tile);
    WinogradConvolution(at::randn({1, 640, 32, 32}), at::randn({64, 640, 3, 3}), {}, 6 - tile);
    EXPECT_TRUE(at::equal(once, WinogradConvolution(x, weight, {}, tile)));
  }
}

TEST(Winograd, ALayerTakesItWhereItServes) {
  const auto tile = [](at::ScalarType dtype, int64_t channels, int64_t batch, int64_t side) {
    return WinogradTile(at::empty({batch, channels, side, side}, dtype),
                        at::empty({channels, channels, 3, 3}, dtype));
  };
  EXPECT_EQ(tile(at::kFloat, 320, 2, 32), 2);
  const bool units = HasMatrixUnits();  // With them a plain bfloat16 convolution is best.
  EXPECT_EQ(tile(at::kBFloat16, 320, 2, 32), units ? 0 : 4);
  EXPECT_EQ(tile(at::kBFloat16, 640, 2, 16), units ? 0 : 2) << "Few positions for large tiles.";
  EXPECT_EQ(tile(at::kFloat, 1280, 2, 8), 0) << "Too few positions.";
  EXPECT_EQ(tile(at::kBFloat16, 1280, 2, 8), 0);
  EXPECT_EQ(tile(at::kBFloat16, 1280, 2, 4), 0) << "Too few positions.";
  EXPECT_EQ(tile(at::kFloat, 64, 32, 16), 0) << "Too few channels.";
  EXPECT_EQ(tile(at::kFloat, 300, 2, 32), 0) << "Lanes that would stay empty.";
  EXPECT_EQ(tile(at::kHalf, 320, 2, 32), 0) << "Another dtype.";
  EXPECT_EQ(WinogradTile(at::empty({2, 320, 32, 32}), at::empty({320, 320, 1, 1})), 0);

  at::manual_seed(1);
  const at::Tensor x = at::randn({1, 256, 16, 16});
  Conv2d conv = {.weight_OIHW = at::randn({256, 256, 3, 3}),
                 .bias_O = at::randn({256}),
                 .stride = 1,
                 .padding = 1};
  EXPECT_TRUE(at::equal(conv.Forward(x), WinogradConvolution(x, conv.weight_OIHW, conv.bias_O, 2)));
  conv.stride = 2;
  EXPECT_TRUE(at::equal(conv.Forward(x),
                        at::conv2d(x, conv.weight_OIHW, conv.bias_O, 2, at::IntArrayRef{1, 1})));
}

TEST(Winograd, NotANumberIsNotHidden) {
  at::Tensor x = at::randn({1, 256, 16, 16});
  x[0][7][5][5] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor y = WinogradConvolution(x, at::randn({256, 256, 3, 3}), {}, 2);
  EXPECT_TRUE(at::isnan(y[0].slice(1, 4, 7).slice(2, 4, 7)).all().item<bool>());
}

}  // namespace
}  // namespace imageddpo
