#include "common/kernels/gpu/fused_kernels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "tests/testing/gpu/emulated_gpu.h"

namespace imageddpo {
namespace {

/// ‖found − expected‖ / ‖expected‖
double Error(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  const at::Tensor exact = expected.to(at::kDouble);
  return ((found.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

/// Sums in float32 in another order than libtorch's.
constexpr double kFloatError = 1e-6;
/// One rounding to 8 bits: at most 2⁻⁹ of each value.
constexpr double kBfloat16Error = 0x1p-9;

class FusedKernelsTest : public ::testing::Test {
 protected:
  FusedKernelsTest() { at::manual_seed(7); }

  const std::shared_ptr<const FusedKernels> kernels_ = EmulatedKernels();
};

at::Tensor ComposedNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        int64_t groups, bool silu) {
  const at::Tensor y = at::group_norm(x, groups, weight, bias, 1e-5);
  return silu ? at::silu(y) : y;
}

TEST_F(FusedKernelsTest, GroupNormIsLibtorchs) {
  // Channels, groups, height, width: one group; groups of one channel; many chunks, the last of
  // which is not full; more channels than threads.
  for (const auto& [c, g, h, w] : std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>>{
           {12, 1, 5, 7}, {8, 8, 3, 3}, {24, 4, 25, 23}, {640, 32, 3, 3}}) {
    const at::Tensor x = at::randn({2, c, h, w}) * 2 + 1;
    const at::Tensor weight = at::randn({c}), bias = at::randn({c});
    for (const bool silu : {false, true}) {
      const at::Tensor y = kernels_->GroupNorm(x, weight, bias, g, 1e-5, silu);
      EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
      EXPECT_LE(Error(y, ComposedNorm(x, weight, bias, g, silu)), kFloatError)
          << c << " channels, " << g << " groups, " << h << "x" << w << ", silu " << silu;
    }
  }
}

// A sum of squares less the square of the mean would have lost every digit.
TEST_F(FusedKernelsTest, GroupNormKeepsItsDigitsFarFromZero) {
  const at::Tensor x = at::randn({1, 8, 16, 16}) + 1000;
  const at::Tensor weight = at::ones({8}), bias = at::zeros({8});
  const at::Tensor exact = ComposedNorm(x.to(at::kDouble), weight.to(at::kDouble),
                                        bias.to(at::kDouble), 2, /*silu=*/false);
  EXPECT_LE(Error(kernels_->GroupNorm(x, weight, bias, 2, 1e-5, false), exact), 1e-3);
}

TEST_F(FusedKernelsTest, ASamplesBitsDoNotDependOnTheBatch) {
  const at::Tensor x = at::randn({3, 8, 9, 9}), weight = at::randn({8}), bias = at::randn({8});
  const at::Tensor all = kernels_->GroupNorm(x, weight, bias, 4, 1e-5, true);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(at::equal(kernels_->GroupNorm(x.narrow(0, i, 1), weight, bias, 4, 1e-5, true),
                          all.narrow(0, i, 1)));
  }
}

TEST_F(FusedKernelsTest, GegluIsLibtorchs) {
  for (const int64_t width : {4, 20, 1028}) {
    const at::Tensor x = at::randn({3, 5, 2 * width}) * 2;
    const std::vector<at::Tensor> halves = x.chunk(2, -1);
    EXPECT_LE(Error(kernels_->Geglu(x), halves[0] * at::gelu(halves[1])), kFloatError) << width;
  }
}

TEST_F(FusedKernelsTest, LoraDownIsAProductInFloat32) {
  // Rows, features, outputs: less than a tile, whole ones, one more than those.
  for (const auto& [n, i, r] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
           {1, 3, 1}, {64, 32, 32}, {130, 100, 40}}) {
    const at::Tensor x = at::randn({n, i}), down = at::randn({r, i});
    EXPECT_LE(Error(kernels_->LoraDown(x, down), at::linear(x, down)), kFloatError)
        << n << " rows, " << i << " features, " << r << " outputs";
  }
}

TEST_F(FusedKernelsTest, Bfloat16IsRoundedOnce) {
  const auto bf16 = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  const at::Tensor x = bf16(at::randn({2, 8, 6, 6})), weight = bf16(at::randn({8})),
                   bias = bf16(at::randn({8}));
  const at::Tensor norm = kernels_->GroupNorm(x, weight, bias, 2, 1e-5, true);
  EXPECT_EQ(norm.scalar_type(), at::kBFloat16);
  EXPECT_LE(Error(norm, ComposedNorm(x.to(at::kFloat), weight.to(at::kFloat), bias.to(at::kFloat),
                                     2, true)),
            kBfloat16Error);

  const at::Tensor both = bf16(at::randn({7, 24}));
  const std::vector<at::Tensor> halves = both.to(at::kFloat).chunk(2, -1);
  EXPECT_LE(Error(kernels_->Geglu(both), halves[0] * at::gelu(halves[1])), kBfloat16Error);

  // The low-rank product is not rounded at all.
  const at::Tensor rows = bf16(at::randn({70, 48})), down = at::randn({5, 48});
  const at::Tensor low = kernels_->LoraDown(rows, down);
  EXPECT_EQ(low.scalar_type(), at::kFloat);
  EXPECT_LE(Error(low, at::linear(rows.to(at::kFloat), down)), kFloatError);
}

// gelu(17) is 17 in float32, and 17 times a number of 8 bits needs 13: some lie between two
// bfloat16 and some just in the middle.
TEST_F(FusedKernelsTest, RoundsAsLibtorch) {
  const at::Tensor numbers = at::arange(128, 256, at::kFloat);
  const at::Tensor a =
      at::cat({numbers, -numbers, at::full({4}, 3e38F), at::full({4}, -3e38F)}).unsqueeze(0);
  const at::Tensor x = at::cat({a, at::full_like(a, 17.0F)}, 1).to(at::kBFloat16);
  const at::Tensor expected = (a.to(at::kBFloat16).to(at::kFloat) * 17.0F).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(kernels_->Geglu(x), expected));
  const at::Tensor nan = at::full({1, 8}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(kernels_->Geglu(nan.to(at::kBFloat16)).isnan().all().item<bool>());
}

TEST_F(FusedKernelsTest, WhatAKernelDoesNotKnowIsNotTaken) {
  const at::Tensor image = at::randn({1, 8, 2, 2});
  EXPECT_TRUE(kernels_->TakesGroupNorm(image, 4));
  EXPECT_TRUE(kernels_->TakesGroupNorm(image.to(at::kBFloat16), 4));
  EXPECT_FALSE(kernels_->TakesGroupNorm(image.to(at::kHalf), 4));
  EXPECT_FALSE(kernels_->TakesGroupNorm(image.to(at::kDouble), 4));
  EXPECT_FALSE(kernels_->TakesGroupNorm(image.flatten(2), 4));
  EXPECT_FALSE(kernels_->TakesGroupNorm(at::empty({0, 8, 2, 2}), 4));
  EXPECT_FALSE(kernels_->TakesGroupNorm(at::randn({1, 4097, 1, 1}), 1));
  EXPECT_TRUE(kernels_->TakesGeglu(at::randn({3, 16})));
  EXPECT_FALSE(kernels_->TakesGeglu(at::randn({3, 12})));
  EXPECT_FALSE(kernels_->TakesGeglu(at::randn({49}).narrow(0, 1, 48).view({3, 16})));
  EXPECT_TRUE(kernels_->TakesLoraDown(at::randn({3, 5})));
  EXPECT_FALSE(kernels_->TakesLoraDown(at::randn({3, 5, 2})));
  EXPECT_THROW(kernels_->LoraDown(at::randn({3, 5}), at::randn({2, 6})), std::invalid_argument);
  EXPECT_THROW(
      kernels_->GroupNorm(image.to(at::kBFloat16), at::ones({8}), at::zeros({8}), 4, 1e-5, false),
      std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo
