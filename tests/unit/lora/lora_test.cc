#include "common/lora/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "common/sd/unet.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/lora/small_lora.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(LoraTest, CreateFollowsTheConfig) {
  const LoraConfig config = {.rank = 3, .alpha = 6.0, .target_modules = {"to_q", "to_out.0"}};
  const auto lora = Lora::Create(Linears(), config, Normal);
  ASSERT_TRUE(lora.ok()) << lora.status();
  ASSERT_EQ(lora->modules().size(), 2u);
  const Lora::Module& module = lora->modules()[1];
  EXPECT_EQ(module.path, Linears()[1].path);
  EXPECT_DOUBLE_EQ(module.scale, 2.0);
  EXPECT_TRUE(at::equal(module.down_RI, Normal(module.path, {3, 6}) / 3.0));
  EXPECT_EQ(module.up_OR.abs().max().item().toDouble(), 0.0);
  EXPECT_EQ(lora->num_parameters(), 3 * (6 + 5) + 3 * (6 + 6));
  for (const at::Tensor& parameter : lora->Parameters()) {
    EXPECT_TRUE(parameter.requires_grad() && parameter.is_leaf());
    EXPECT_EQ(parameter.scalar_type(), at::kFloat);
  }
  ExpectSame(*lora, Must(Lora::Create(Linears(), config, Normal)));
}

TEST(LoraTest, CreateRefusesBadConfigs) {
  const auto error = [](const LoraConfig& config) {
    return std::string(Lora::Create(Linears(), config, Normal).status().message());
  };
  EXPECT_THAT(error({.rank = 0}), HasSubstr("lora.rank = 0"));
  EXPECT_THAT(error({.alpha = 0}), HasSubstr("lora.alpha"));
  EXPECT_THAT(error({.alpha = std::numeric_limits<double>::infinity()}), HasSubstr("lora.alpha"));
  EXPECT_THAT(error({.target_modules = {}}), HasSubstr("lora.target_modules"));
  EXPECT_THAT(error({.target_modules = {"to_q", "to_nothing", "o_q"}}),
              AllOf(HasSubstr("to_nothing"), HasSubstr("o_q")));
}

TEST(LoraTest, CopiesShareClonesDoNot) {
  Lora lora = MakeLora();
  const Lora shared = lora;
  const Lora clone = lora.Clone();
  const std::string hash = lora.Hash();
  ExpectSame(clone, lora);
  for (const at::Tensor& parameter : clone.Parameters())
    EXPECT_TRUE(parameter.requires_grad() && parameter.is_leaf());

  lora.Unflatten(lora.Flatten() * 2.0);
  ExpectSame(shared, lora);
  EXPECT_NE(lora.Hash(), hash);
  EXPECT_EQ(clone.Hash(), hash);
  lora.CopyFrom(clone);
  EXPECT_EQ(shared.Hash(), hash);
  EXPECT_THROW(lora.CopyFrom(MakeLora(3)), std::invalid_argument);
  EXPECT_THROW(lora.CopyFrom(MakeLora(2, 5.0)), std::invalid_argument);
  EXPECT_THROW(lora.Unflatten(at::zeros({lora.num_parameters() - 1})), std::invalid_argument);
  EXPECT_THROW(lora.Unflatten(at::zeros({lora.num_parameters()}, at::kDouble)),
               std::invalid_argument);
}

TEST(LoraTest, HashSeesEveryPart) {
  const Lora lora = MakeLora();
  std::set<std::string> hashes = {lora.Hash()};
  EXPECT_EQ(lora.Hash().size(), 64u);
  Lora nudged = lora.Clone();
  const at::Tensor flat = nudged.Flatten();
  flat[-1].add_(1e-3);
  nudged.Unflatten(flat);
  EXPECT_TRUE(hashes.insert(nudged.Hash()).second);
  TensorMap tensors = lora.ToTensors();
  for (const Lora::Module& module : lora.modules()) {
    tensors["unet." + module.path + ".alpha"] = at::scalar_tensor(2.0 + 1e-12, at::kDouble);
  }
  EXPECT_TRUE(hashes.insert(Must(FromTensors(tensors)).Hash()).second) << "alpha";
}

class BoundLoraTest : public testing::Test {
 protected:
  void SetUp() override {
    auto unet = Unet::Load("tests/data/parity/models/sd1/unet", {});
    ASSERT_TRUE(unet.ok()) << unet.status();
    unet_ = *std::move(unet);
    at::manual_seed(1);
    latents_ = at::randn({1, 4, 8, 8});
    context_ = at::randn({1, 16, 8});
  }
  at::Tensor Forward() const {
    return unet_->Forward(latents_, at::tensor(7, at::kLong).view({1}), context_);
  }

  std::unique_ptr<Unet> unet_;
  at::Tensor latents_, context_;
};

TEST_F(BoundLoraTest, SharesItsTensorsAndGivesGradientsToThemOnly) {
  const at::Tensor base = Forward();
  Lora lora = Must(Lora::Create(unet_->linears(), {}, Normal));
  EXPECT_EQ(*unet_->BindLora(lora), 32);
  EXPECT_TRUE(at::equal(Forward(), base)) << "up is zero";
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  const at::Tensor out = Forward();
  EXPECT_GT((out - base).abs().max().item().toDouble(), 1e-3);
  out.sum().backward();
  for (const at::Tensor& parameter : lora.Parameters()) EXPECT_TRUE(parameter.grad().defined());
  {
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(Forward(), out)) << "the same bits with and without a graph";
    EXPECT_FALSE(Forward().requires_grad());
  }
  unet_->UnbindLora();
  EXPECT_TRUE(at::equal(Forward(), base));
}

TEST_F(BoundLoraTest, RefusesWhatDoesNotFitAndKeepsWhatWasBound) {
  Lora lora = Must(Lora::Create(unet_->linears(), {}, Normal));
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  const at::Tensor out = Forward();
  const auto bound = unet_->BindLora(MakeLora());
  EXPECT_EQ(bound.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bound.status().message()),
              HasSubstr("mid_block.attentions.0.transformer_blocks.0.attn2.to_k"));
  EXPECT_TRUE(at::equal(Forward(), out));
}

TEST_F(BoundLoraTest, FoldsIntoTheWeightsAndBack) {
  const at::NoGradGuard no_grad;
  Lora lora = Must(Lora::Create(unet_->linears(), {.alpha = 2.0}, Normal));
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  const at::Tensor out = Forward();
  unet_->FoldLora();
  const at::Tensor folded = Forward();
  EXPECT_LT((folded - out).abs().max().item().toDouble(), 1e-5);
  lora.Unflatten(at::zeros({lora.num_parameters()}));
  EXPECT_TRUE(at::equal(Forward(), folded)) << "the branches are not computed";
  unet_->UnfoldLora();
  unet_->UnbindLora();
  const at::Tensor base = Forward();
  EXPECT_GT((base - out).abs().max().item().toDouble(), 1e-3);
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  EXPECT_TRUE(at::equal(Forward(), base));
}

TEST_F(BoundLoraTest, CanBeTakenOffForAWhile) {
  const at::NoGradGuard no_grad;
  const at::Tensor base = Forward();
  {
    const WithoutLora without(unet_.get());
    EXPECT_TRUE(at::equal(Forward(), base)) << "nothing was bound";
  }
  Lora lora = Must(Lora::Create(unet_->linears(), {}, Normal));
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  const at::Tensor out = Forward();
  unet_->FoldLora();
  const at::Tensor folded = Forward();
  {
    const WithoutLora without(unet_.get());
    EXPECT_TRUE(at::equal(Forward(), base));
  }
  EXPECT_TRUE(at::equal(Forward(), folded));
  unet_->UnfoldLora();
  EXPECT_TRUE(at::equal(Forward(), out));
}

TEST_F(BoundLoraTest, ReachesConvolutionsOfOnePixel) {
  Lora lora = Must(Lora::Create(
      unet_->linears(), {.target_modules = {"proj_in", "proj_out", "conv_shortcut"}}, Normal));
  for (const Lora::Module& module : lora.modules()) EXPECT_TRUE(module.is_convolution);
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  const at::Tensor base = Forward();
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  const at::Tensor out = Forward();
  EXPECT_GT((out - base).abs().max().item().toDouble(), 1e-3);
  {
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(Forward(), out)) << "the same bits with and without a graph";
    unet_->FoldLora();
    EXPECT_LT((Forward() - out).abs().max().item().toDouble(), 1e-5)
        << "the branch is the product that is added to the filters";
    unet_->UnfoldLora();
  }
  out.sum().backward();
  std::vector<at::Tensor> rows;
  for (const at::Tensor& parameter : lora.Parameters()) {
    ASSERT_TRUE(parameter.grad().defined());
    rows.push_back(at::zeros_like(parameter.grad()).unsqueeze(0));
  }
  unet_->CaptureRowGradients(lora, rows);
  const at::Tensor again = Forward();
  EXPECT_TRUE(at::equal(again, out));
  again.sum().backward();
  unet_->ReleaseRowGradients();
  const std::vector<at::Tensor> parameters = lora.Parameters();
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_TRUE(at::allclose(rows[i][0], parameters[i].grad(), 1e-4, 1e-6)) << i;
  }
  // diffusers has these layers' factors as convolutions.
  for (const auto& [name, tensor] : lora.ToTensors()) EXPECT_EQ(tensor.dim(), 4) << name;
  ExpectSame(Must(Lora::FromTensors(lora.ToTensors(), lora.Metadata(), "f", unet_->linears())),
             lora);
}

TEST_F(BoundLoraTest, IsNotFoldedIntoWeightsThatWouldSwallowIt) {
  const at::NoGradGuard no_grad;
  const auto half = Unet::Load("tests/data/parity/models/sd1/unet", {.dtype = at::kBFloat16});
  ASSERT_TRUE(half.ok()) << half.status();
  const auto pass = [&] {
    return (*half)->Forward(latents_, at::tensor(7, at::kLong).view({1}), context_);
  };
  Lora lora = Must(Lora::Create((*half)->linears(), {}, Normal));
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  ASSERT_TRUE((*half)->BindLora(lora).ok());
  const at::Tensor out = pass();
  (*half)->FoldLora();
  EXPECT_TRUE(at::equal(pass(), out));
}

TEST_F(BoundLoraTest, StaysFloat32InAModelOfLowerPrecision) {
  auto half = Unet::Load("tests/data/parity/models/sd1/unet", {.dtype = at::kBFloat16});
  ASSERT_TRUE(half.ok()) << half.status();
  Lora lora = Must(Lora::Create(unet_->linears(), {}, Normal));
  lora.Unflatten(at::randn({lora.num_parameters()}) * 0.1);
  ASSERT_TRUE(unet_->BindLora(lora).ok());
  ASSERT_TRUE((*half)->BindLora(lora).ok());
  const at::Tensor exact = Forward();
  const at::Tensor rounded =
      (*half)->Forward(latents_, at::tensor(7, at::kLong).view({1}), context_);
  EXPECT_EQ(rounded.scalar_type(), at::kFloat);
  const double error = (rounded - exact).abs().max().item().toDouble();
  EXPECT_GT(error, 1e-5);
  EXPECT_LT(error, 0.1 * exact.abs().max().item().toDouble());
  rounded.sum().backward();
  for (const at::Tensor& parameter : lora.Parameters())
    EXPECT_EQ(parameter.grad().scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace imageddpo
