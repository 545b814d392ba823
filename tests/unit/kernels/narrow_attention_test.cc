#include "common/kernels/narrow_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace imageddpo {
namespace {

struct Shape {
  int64_t batch, heads, queries, keys, width;
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << "batch " << s.batch << ", heads " << s.heads << ", queries " << s.queries << ", keys "
       << s.keys << ", width " << s.width;
}

/// Leaf tensors in the UNet's layout: the row of a position has its heads side by side.
struct Inputs {
  explicit Inputs(const Shape& s, at::ScalarType dtype = at::kFloat) {
    const at::Generator generator = at::detail::createCPUGenerator(7);
    const auto make = [&](int64_t positions) {
      return at::randn({s.batch, positions, s.heads, s.width}, generator)
          .to(dtype)
          .transpose(1, 2)
          .detach()
          .requires_grad_();
    };
    q = make(s.queries);
    k = make(s.keys);
    v = make(s.keys);
    out_gradient = make(s.queries).detach();
  }
  std::vector<at::Tensor> Gradients() const { return {q.grad(), k.grad(), v.grad()}; }
  at::Tensor q, k, v, out_gradient;
};

class NarrowAttentionShapes : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, NarrowAttentionShapes,
                         testing::Values(Shape{2, 4, 64, 64, 8}, Shape{2, 4, 64, 77, 8},
                                         Shape{3, 2, 16, 77, 16}, Shape{1, 1, 1, 1, 4},
                                         Shape{2, 3, 5, 17, 4}, Shape{1, 2, 7, 15, 8}));

TEST_P(NarrowAttentionShapes, ForwardIsLibtorchsBitForBit) {
  const Inputs x(GetParam());
  const at::Tensor recorded = NarrowAttention(x.q, x.k, x.v);
  const at::NoGradGuard no_grad;
  const at::Tensor expected = at::scaled_dot_product_attention(x.q, x.k, x.v);
  EXPECT_TRUE(at::equal(NarrowAttention(x.q, x.k, x.v), expected));
  EXPECT_TRUE(at::equal(recorded, expected));
}

TEST_P(NarrowAttentionShapes, GradientsAreThoseOfDoublePrecision) {
  const Inputs ours(GetParam());
  NarrowAttention(ours.q, ours.k, ours.v).backward(ours.out_gradient);
  const Inputs exact(GetParam(), at::kDouble);
  const at::Tensor weights =
      (exact.q.matmul(exact.k.transpose(2, 3)) / std::sqrt(GetParam().width)).softmax(-1);
  weights.matmul(exact.v).backward(exact.out_gradient);
  for (size_t i = 0; i < 3; ++i) {
    const at::Tensor expected = exact.Gradients()[i];
    const double error = (ours.Gradients()[i] - expected).norm().item<double>();
    EXPECT_LE(error, 1e-6 * expected.norm().item<double>() + 1e-7) << "gradient " << i;
  }
}

TEST(NarrowAttention, TheSameBitsAgainAndOnAnyNumberOfThreads) {
  const Shape shape{5, 4, 64, 77, 8};
  std::vector<at::Tensor> first;
  const int threads = at::get_num_threads();
  for (const int n : {1, 1, 2}) {
    at::set_num_threads(n);
    const Inputs x(shape);
    NarrowAttention(x.q, x.k, x.v).backward(x.out_gradient);
    if (first.empty()) first = x.Gradients();
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(x.Gradients()[i], first[i])) << i;
  }
  at::set_num_threads(threads);
}

TEST(NarrowAttention, AGradientInAnotherLayoutIsTheSameGradient) {
  const Inputs one({2, 4, 16, 20, 8}), two({2, 4, 16, 20, 8});
  NarrowAttention(one.q, one.k, one.v).backward(one.out_gradient);
  // Its last dimension is not dense.
  const at::Tensor strided = one.out_gradient.transpose(2, 3).contiguous().transpose(2, 3);
  ASSERT_NE(strided.stride(3), 1);
  NarrowAttention(two.q, two.k, two.v).backward(strided);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(one.Gradients()[i], two.Gradients()[i])) << i;
  }
}

TEST(NarrowAttention, FarApartScoresStayFinite) {
  const Inputs x({1, 1, 4, 20, 8});
  const at::Tensor q = (x.q * 100).detach().requires_grad_();
  NarrowAttention(q, x.k, x.v).backward(x.out_gradient);
  const Inputs exact({1, 1, 4, 20, 8}, at::kDouble);
  const at::Tensor wide_q = (exact.q * 100).detach().requires_grad_();
  (wide_q.matmul(exact.k.transpose(2, 3)) / std::sqrt(8.0))
      .softmax(-1)
      .matmul(exact.v)
      .backward(exact.out_gradient);
  // Scores of several hundred are sums of eight products, each rounded by 2^-24 of itself: up to
  // 3e-4 in a score, and as much of a weight, where there are no fused multiply-adds.
  EXPECT_TRUE(at::allclose(q.grad().to(at::kDouble), wide_q.grad(), 1e-3, 1e-4));
  EXPECT_TRUE(at::allclose(x.k.grad().to(at::kDouble), exact.k.grad(), 1e-3, 1e-3));
  EXPECT_TRUE(at::allclose(x.v.grad().to(at::kDouble), exact.v.grad(), 1e-3, 1e-4));
}

TEST(NarrowAttention, NotANumberIsNotHidden) {
  const Inputs x({1, 1, 4, 20, 8});
  const at::Tensor k = x.k.detach().clone();
  k[0][0][3][2] = std::numeric_limits<float>::quiet_NaN();
  k.requires_grad_();
  NarrowAttention(x.q, k, x.v).backward(x.out_gradient);
  EXPECT_TRUE(x.q.grad().isnan().all().item<bool>());
}

TEST(NarrowAttention, GoesByDtypeDeviceAndWidth) {
  EXPECT_TRUE(IsNarrow(at::zeros({1, 1, 2, 8})));
  EXPECT_FALSE(IsNarrow(at::zeros({1, 1, 2, 40})));
  EXPECT_FALSE(IsNarrow(at::zeros({1, 1, 2, 8}, at::kBFloat16)));
}

}  // namespace
}  // namespace imageddpo
