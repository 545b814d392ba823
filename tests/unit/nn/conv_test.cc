#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "common/nn/layers.h"

namespace imageddpo {
namespace {

struct ConvCase {
  const char* name;
  int64_t in_channels, out_channels, kernel, stride, padding, batch, side;
  bool bias = true;
};

/// Shapes with many weights and few positions, and some others.
class ConvShapes : public testing::TestWithParam<ConvCase> {};

/// `most`: of y and of x's gradient, relative to their norms.
void ExpectThoseOfDoublePrecision(const ConvCase& c, at::ScalarType dtype, double most) {
  at::manual_seed(1);
  const Conv2d conv = {
      .weight_OIHW = at::randn({c.out_channels, c.in_channels, c.kernel, c.kernel}).to(dtype),
      .bias_O = c.bias ? at::randn({c.out_channels}).to(dtype) : at::Tensor(),
      .stride = c.stride,
      .padding = c.padding};
  const at::Tensor x =
      at::randn({c.batch, c.in_channels, c.side, c.side}).to(dtype).requires_grad_(true);
  const at::Tensor exact_x = x.detach().to(at::kDouble).requires_grad_(true);
  const at::Tensor y = conv.Forward(x);
  const at::Tensor exact_y =
      at::conv2d(exact_x, conv.weight_OIHW.to(at::kDouble),
                 c.bias ? conv.bias_O.to(at::kDouble) : at::Tensor(), {c.stride, c.stride},
                 at::IntArrayRef{c.padding, c.padding});
  ASSERT_EQ(y.sizes(), exact_y.sizes());
  const at::Tensor y_grad = at::randn(y.sizes()).to(dtype);
  y.backward(y_grad);
  exact_y.backward(y_grad.to(at::kDouble));
  for (const auto& [ours, exact] : {std::pair(y, exact_y), std::pair(x.grad(), exact_x.grad())}) {
    EXPECT_LT((ours - exact).norm().item<double>(), most * exact.norm().item<double>());
  }
}

TEST_P(ConvShapes, AreThoseOfDoublePrecision) {
  ExpectThoseOfDoublePrecision(GetParam(), at::kFloat, 1e-6);
}

TEST_P(ConvShapes, AreThoseOfDoublePrecisionButForTheRounding) {
  // The gradient with respect to x is a sum of up to nine rounded values, rounded at each addition.
  ExpectThoseOfDoublePrecision(GetParam(), at::kBFloat16, 5e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ConvShapes,
    testing::Values(ConvCase{"product", 384, 384, 3, 1, 1, 2, 8},
                    ConvCase{"product_of_stride_2", 384, 384, 3, 2, 1, 3, 8},
                    ConvCase{"product_without_padding", 320, 400, 3, 2, 0, 2, 9},
                    ConvCase{"product_of_one_pixel", 1024, 1024, 1, 1, 0, 2, 4, /*bias=*/false},
                    ConvCase{"many_positions", 384, 384, 3, 1, 1, 2, 16},
                    ConvCase{"few_weights", 64, 32, 3, 1, 1, 2, 8}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace imageddpo
