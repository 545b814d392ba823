// AdamW with moments in 8 bits: the levels, the error of rounding to them, saving and restoring.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "trainer/algo/adamw.h"
#include "trainer/algo/blockwise_quantizer.h"

namespace imageddpo {
namespace {

TEST(BlockwiseQuantizer, HasTheLevelsOfADynamicMap) {
  for (const bool is_signed : {true, false}) {
    const at::Tensor levels = BlockwiseQuantizer(is_signed).levels();
    ASSERT_EQ(levels.numel(), 256);
    EXPECT_GT((levels.narrow(0, 1, 255) - levels.narrow(0, 0, 255)).min().item<float>(), 0);
    EXPECT_EQ(levels[255].item<float>(), 1.0F);
    EXPECT_EQ(levels.eq(0).sum().item<int64_t>(), 1);
  }
  // The largest below 1, and the smallest magnitudes: one level in the lowest decade, or two.
  const at::Tensor with_sign = BlockwiseQuantizer(true).levels();
  EXPECT_FLOAT_EQ(with_sign[254].item<float>(), 0.1F + 0.9F * 63.5F / 64);
  EXPECT_FLOAT_EQ(with_sign[0].item<float>(), -(0.1F + 0.9F * 63.5F / 64));
  EXPECT_FLOAT_EQ(with_sign[128].item<float>(), 0.55e-6F);
  const at::Tensor without = BlockwiseQuantizer(false).levels();
  EXPECT_FLOAT_EQ(without[1].item<float>(), 0.325e-6F);
  EXPECT_FLOAT_EQ(without[254].item<float>(), 0.1F + 0.9F * 127.5F / 128);
}

TEST(BlockwiseQuantizer, TakesTheNearestLevelOfEachBlocksScale) {
  const BlockwiseQuantizer quantizer(/*is_signed=*/true);
  at::manual_seed(5);
  // Three blocks, the last one short, of scales far apart; one of zeros.
  const at::Tensor values = at::randn({4, 150});
  values.view({-1}).narrow(0, 256, 256).mul_(1e-6);
  const auto quantized = quantizer.Quantize(values);
  EXPECT_EQ(quantized.codes.sizes(), values.sizes());
  EXPECT_EQ(quantized.scales_N.numel(), 3);
  const at::Tensor back = quantizer.Dequantize(quantized);
  const at::Tensor scales =
      quantized.scales_N.repeat_interleave(256).narrow(0, 0, 600).view({4, 150});
  const at::Tensor relative = values / scales;
  const at::Tensor nearest =
      (relative.unsqueeze(-1) - quantizer.levels()).abs().amin(-1).view({4, 150});
  EXPECT_TRUE(at::allclose((back / scales - relative).abs(), nearest, 1e-3, 1e-7));
  EXPECT_LE(((back - values).abs() / scales).max().item<float>(), 0.008);
  const auto zeros = quantizer.Dequantize(quantizer.Quantize(at::zeros({3})));
  EXPECT_TRUE(zeros.equal(at::zeros({3})));
}

/// A quadratic loss with noise, of parameters of 300 values (8-bit moments) and 4 (32-bit moments).
class Bowl {
 public:
  explicit Bowl(const AdamWOptions& options)
      : params_({at::ones({30, 10}), at::ones({4})}), optimizer_({"a", "b"}, params_, options) {}

  void Step(int i) {
    at::manual_seed(i);
    std::vector<at::Tensor> grads;
    for (const at::Tensor& param : params_) grads.push_back(param + 0.1 * at::randn(param.sizes()));
    optimizer_.Step(grads);
  }

  std::vector<at::Tensor> params_;
  AdamW optimizer_;
};

constexpr AdamWOptions kIn8Bits{.learning_rate = 0.01, .moments_8bit = true, .min_8bit_size = 100};

TEST(AdamW8bit, FollowsAdamWWithinItsRounding) {
  Bowl exact({.learning_rate = 0.01});
  Bowl rounded(kIn8Bits);
  for (int i = 0; i < 60; ++i) {
    exact.Step(i);
    rounded.Step(i);
  }
  const double moved = (1 - exact.params_[0]).norm().item<double>();
  const double off = (rounded.params_[0] - exact.params_[0]).norm().item<double>();
  EXPECT_LT(off, 0.03 * moved);
  EXPECT_GT(off, 0);
  EXPECT_TRUE(rounded.params_[1].equal(exact.params_[1]));  // Too small for 8 bits.
}

TEST(AdamW8bit, GoesOnFromItsStateBitForBit) {
  Bowl one(kIn8Bits), two(kIn8Bits);
  for (int i = 0; i < 5; ++i) one.Step(i);
  const std::map<std::string, at::Tensor> state = one.optimizer_.State();
  EXPECT_EQ(state.at("m.a").scalar_type(), at::kByte);
  EXPECT_EQ(state.at("v_scale.a").numel(), 2);
  EXPECT_EQ(state.at("v.b").scalar_type(), at::kFloat);
  EXPECT_FALSE(state.contains("m_scale.b"));
  ASSERT_TRUE(two.optimizer_.LoadState(state).ok());
  for (size_t i = 0; i < 2; ++i) two.params_[i].copy_(one.params_[i]);
  for (int i = 5; i < 9; ++i) {
    one.Step(i);
    two.Step(i);
  }
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(two.params_[i].equal(one.params_[i]));

  Bowl exact({.learning_rate = 0.01});
  const absl::Status status = exact.optimizer_.LoadState(state);
  EXPECT_NE(std::string(status.message()).find("m.a must be float32"), std::string::npos) << status;
}

}  // namespace
}  // namespace imageddpo
