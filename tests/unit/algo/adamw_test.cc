#include "trainer/algo/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace imageddpo {
namespace {

std::vector<at::Tensor> Params() {
  return {at::tensor({1.0F, -2.0F}), at::tensor({0.5F, 3.0F}).view({2, 1})};
}

TEST(AdamW, TheFirstStepIsTheLearningRateTimesTheSign) {
  std::vector<at::Tensor> params = Params();
  AdamW optimizer({"a", "b"}, params, {.learning_rate = 0.1, .weight_decay = 0.0});
  optimizer.Step({at::tensor({3.0F, -0.001F}), at::tensor({-2.0F, 7.0F}).view({2, 1})});
  EXPECT_TRUE(at::allclose(params[0], at::tensor({0.9F, -1.9F})));
  EXPECT_TRUE(at::allclose(params[1], at::tensor({0.6F, 2.9F}).view({2, 1})));
  EXPECT_EQ(optimizer.step(), 1);
}

TEST(AdamW, DecayIsApartFromTheGradient) {
  std::vector<at::Tensor> params = Params();
  AdamW optimizer({"a", "b"}, params, {.learning_rate = 0.1, .weight_decay = 0.5});
  optimizer.Step({at::zeros({2}), at::Tensor()});
  EXPECT_TRUE(at::allclose(params[0], at::tensor({0.95F, -1.9F})));
  EXPECT_TRUE(at::equal(params[1], Params()[1]));  // No gradient: left alone.
}

TEST(AdamW, UpdatesLeavesThatRequireGradients) {
  std::vector<at::Tensor> params = {at::ones({3}).requires_grad_()};
  AdamW optimizer({"a"}, params, {});
  optimizer.Step({at::ones({3})});
  EXPECT_TRUE(params[0].is_leaf());
  EXPECT_LT(params[0].max().item<float>(), 1.0F);
}

TEST(AdamW, GoesOnFromItsStateBitForBit) {
  std::vector<at::Tensor> straight = Params();
  AdamW one({"a", "b"}, straight, {.learning_rate = 0.01});
  std::vector<std::vector<at::Tensor>> grads;
  for (int i = 0; i < 6; ++i) grads.push_back({at::randn({2}), at::randn({2, 1})});
  for (int i = 0; i < 3; ++i) one.Step(grads[i]);

  std::vector<at::Tensor> resumed = {straight[0].clone(), straight[1].clone()};
  AdamW two({"a", "b"}, resumed, {.learning_rate = 0.01});
  ASSERT_TRUE(two.LoadState(one.State()).ok());
  for (int i = 3; i < 6; ++i) one.Step(grads[i]);  // What was loaded is a copy.
  EXPECT_EQ(two.step(), 3);
  for (int i = 3; i < 6; ++i) two.Step(grads[i]);
  EXPECT_TRUE(at::equal(straight[0], resumed[0]));
  EXPECT_TRUE(at::equal(straight[1], resumed[1]));
}

TEST(AdamW, RefusesForeignStatesAndChangesNothing) {
  std::vector<at::Tensor> params = Params();
  AdamW optimizer({"a", "b"}, params, {});
  optimizer.Step({at::randn({2}), at::randn({2, 1})});
  std::map<std::string, at::Tensor> good;
  for (const auto& [name, tensor] : optimizer.State()) good[name] = tensor.clone();
  const auto expect_refused = [&](const std::map<std::string, at::Tensor>& state,
                                  const std::string& name) {
    const absl::Status status = optimizer.LoadState(state);
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_NE(std::string(status.message()).find(name), std::string::npos) << status;
    EXPECT_TRUE(at::equal(optimizer.State().at("m.a"), good.at("m.a")));
  };
  for (const char* name : {"m.a", "v.b", "step"}) {
    auto state = good;
    state.erase(name);
    expect_refused(state, name);
    state[name] = at::zeros({5, 5});
    expect_refused(state, name);
  }
  auto state = good;
  state["m.c"] = at::zeros({1});
  expect_refused(state, "m.c");
  state = good;
  state["m.a"] = at::zeros({2}, at::kDouble);
  expect_refused(state, "m.a");
}

TEST(AdamW, RefusesBadCalls) {
  EXPECT_THROW(AdamW({"a"}, Params(), {}), std::invalid_argument);
  EXPECT_THROW(AdamW({"a", "a"}, Params(), {}), std::invalid_argument);
  EXPECT_THROW(AdamW({"a"}, {at::zeros({2}, at::kDouble)}, {}), std::invalid_argument);
  EXPECT_THROW(AdamW({"a", "b"}, Params(), {.learning_rate = -1}), std::invalid_argument);
  EXPECT_THROW(AdamW({"a", "b"}, Params(), {.beta1 = 1.0}), std::invalid_argument);
  AdamW optimizer({"a", "b"}, Params(), {});
  EXPECT_THROW(optimizer.Step({at::zeros({2})}), std::invalid_argument);
  EXPECT_THROW(optimizer.Step({at::zeros({3}), at::zeros({2, 1})}), std::invalid_argument);
}

TEST(ClipGradNorm, ScalesAllGradientsByOneFactor) {
  std::vector<at::Tensor> grads = {at::tensor({3.0F}), at::Tensor(),
                                   at::tensor({4.0F}).view({1, 1})};
  EXPECT_DOUBLE_EQ(ClipGradNorm(grads, 10.0), 5.0);
  EXPECT_EQ(grads[0].item<float>(), 3.0F);
  EXPECT_DOUBLE_EQ(ClipGradNorm(grads, 1.0), 5.0);
  EXPECT_NEAR(grads[0].item<double>(), 0.6, 1e-6);
  EXPECT_NEAR(grads[2].item<double>(), 0.8, 1e-6);
  EXPECT_EQ(ClipGradNorm({}, 1.0), 0.0);
}

TEST(ClipGradNorm, LeavesGradientsThatAreNotFiniteToTheCaller) {
  std::vector<at::Tensor> grads = {at::tensor({std::numeric_limits<float>::infinity()}),
                                   at::tensor({4.0F})};
  EXPECT_FALSE(std::isfinite(ClipGradNorm(grads, 1.0)));
  EXPECT_EQ(grads[1].item<float>(), 4.0F);
}

}  // namespace
}  // namespace imageddpo
