#include "common/nn/projected_text.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace imageddpo {
namespace {

/// A projection like a layer's: its weights require gradients, its input text does not.
struct Layer {
  explicit Layer(at::ScalarType dtype = at::kFloat) : dtype(dtype) {}
  KeysValues Project(const at::Tensor& text_RSD) const {
    return {text_RSD.matmul(key).to(dtype), text_RSD.matmul(value).to(dtype)};
  }
  at::ScalarType dtype;
  at::Tensor key = at::randn({4, 6}).requires_grad_();
  at::Tensor value = at::randn({4, 6}).requires_grad_();
};

/// What step k computes from a layer's output; the function differs from step to step.
at::Tensor Step(const ProjectedText& text, size_t layer, int k) {
  const KeysValues read = text[layer];
  return ((read.key_RSD + k).pow(2) * read.value_RSD).to(at::kFloat).sum();
}

TEST(ProjectedText, WithoutACutAStepGoesOnIntoTheProjections) {
  const at::Tensor text_RSD = at::randn({2, 3, 4});
  const Layer layer;
  ProjectedText text;
  text.Add(layer.Project(text_RSD));
  Step(text, 0, 1).backward();
  EXPECT_TRUE(layer.key.grad().defined());
  EXPECT_TRUE(layer.value.grad().defined());
}

TEST(ProjectedText, CutTheStepsGradientsAreSummedAndGoOnOnce) {
  const at::Tensor text_RSD = at::randn({2, 3, 4});
  const Layer one, two;
  ProjectedText text;
  text.Add(one.Project(text_RSD));
  text.Add(two.Project(text_RSD));
  text.Cut();
  constexpr int kSteps = 3;
  at::Tensor losses = at::zeros({kSteps});
  for (int k = 0; k < kSteps; ++k) {
    const at::Tensor loss = Step(text, 0, k) + Step(text, 1, k);
    losses[k] = loss.detach();
    loss.backward();
    EXPECT_FALSE(one.key.grad().defined()) << "step " << k << " went through the cut";
  }
  text.Backward();
  const at::Tensor key_one = one.key.grad().clone(), value_two = two.value.grad().clone();

  one.key.mutable_grad() = at::Tensor();
  two.value.mutable_grad() = at::Tensor();
  for (int k = 0; k < kSteps; ++k) {
    ProjectedText whole;
    whole.Add(one.Project(text_RSD));
    whole.Add(two.Project(text_RSD));
    const at::Tensor loss = Step(whole, 0, k) + Step(whole, 1, k);
    EXPECT_TRUE(at::equal(loss.detach(), losses[k])) << "the cut changed step " << k;
    loss.backward();
  }
  EXPECT_TRUE(at::allclose(key_one, one.key.grad(), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(value_two, two.value.grad(), 1e-5, 1e-5));
}

TEST(ProjectedText, HalfPrecisionIsReadAsItIsAndSummedInFloat32) {
  const at::Tensor text_RSD = at::randn({2, 3, 4});
  const Layer layer(at::kBFloat16);
  ProjectedText text;
  text.Add(layer.Project(text_RSD));
  const at::Tensor key = text[0].key_RSD.detach();
  text.Cut();
  EXPECT_EQ(text[0].key_RSD.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(text[0].key_RSD.detach(), key));
  // 1 and then 256 times 2⁻⁹: bf16, with 8 bits, would stay at 1.
  text[0].value_RSD.to(at::kFloat).sum().backward();
  for (int i = 0; i < 256; ++i) (text[0].value_RSD.to(at::kFloat) * 0x1p-9).sum().backward();
  text.Backward();
  const at::Tensor expected = text_RSD.sum(at::IntArrayRef{0, 1}).unsqueeze(1).expand({4, 6}) * 1.5;
  EXPECT_TRUE(at::allclose(layer.value.grad(), expected, 1e-2, 1e-2));
}

TEST(ProjectedText, NothingToDoWhereNothingRequiresGradients) {
  ProjectedText text;
  text.Add({at::randn({1, 2, 6}), at::randn({1, 2, 6})});
  text.Cut();
  EXPECT_FALSE(text[0].key_RSD.requires_grad());
  text.Backward();
}

TEST(ProjectedText, AStepThatReadsNoneOfALayerLeavesItAlone) {
  const at::Tensor text_RSD = at::randn({2, 3, 4});
  const Layer read, unread;
  ProjectedText text;
  text.Add(read.Project(text_RSD));
  text.Add(unread.Project(text_RSD));
  text.Cut();
  Step(text, 0, 1).backward();
  text.Backward();
  EXPECT_TRUE(read.key.grad().defined());
  EXPECT_FALSE(unread.key.grad().defined());
}

}  // namespace
}  // namespace imageddpo
