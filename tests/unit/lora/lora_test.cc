#include "common/lora/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "absl/strings/str_replace.h"
#include "common/sd/unet.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::vector<LinearInfo>& Linears() {
  static const std::vector<LinearInfo> linears = {
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", 6, 5},
      {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 6, 6},
      {"down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2", 8, 6},
      {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 3, 4}};
  return linears;
}

at::Tensor Normal(const std::string& path, at::IntArrayRef shape) {
  at::Generator generator = at::detail::createCPUGenerator(std::hash<std::string>()(path));
  return at::randn(shape, generator);
}

Lora MakeLora(int64_t rank = 2, double alpha = 2.0) {
  LoraConfig config = {
      .rank = rank, .alpha = alpha, .target_modules = {"to_q", "to_k", "to_out.0"}};
  absl::StatusOr<Lora> lora = Lora::Create(Linears(), config, Normal);
  EXPECT_TRUE(lora.ok()) << lora.status();
  const at::NoGradGuard no_grad;
  for (const at::Tensor& parameter : lora->Parameters())
    parameter.copy_(at::randn(parameter.sizes()));
  return *lora;
}

Lora Must(const absl::StatusOr<Lora>& lora) {
  EXPECT_TRUE(lora.ok()) << lora.status();
  return lora.ok() ? *lora : Lora();
}

absl::StatusOr<Lora> FromTensors(const TensorMap& tensors, std::optional<double> alpha = {}) {
  return Lora::FromTensors(tensors, {}, "file.safetensors", Linears(), alpha);
}

/// The tensors of `lora` under other names.
TensorMap Renamed(const Lora& lora, const std::function<std::string(std::string)>& rename) {
  TensorMap tensors;
  for (const auto& [name, tensor] : lora.ToTensors()) tensors[rename(name)] = tensor;
  return tensors;
}

void ExpectSame(const Lora& a, const Lora& b) {
  EXPECT_EQ(a.Hash(), b.Hash());
  EXPECT_EQ(a.ParameterNames(), b.ParameterNames());
  EXPECT_TRUE(at::equal(a.Flatten(), b.Flatten()));
}

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

TEST(LoraTest, DiffusersSpelling) {
  const Lora lora = MakeLora();
  EXPECT_TRUE(lora.ToTensors().contains(
      "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora.down.weight"));
  ExpectSame(Must(FromTensors(lora.ToTensors())), lora);
  ExpectSame(
      Must(FromTensors(Renamed(lora, [](const std::string& name) { return name.substr(5); }))),
      lora);
  const auto old = [](const std::string& name) {
    return absl::StrReplaceAll(name, {{".to_q.lora.", ".processor.to_q_lora."},
                                      {".to_k.lora.", ".processor.to_k_lora."},
                                      {".to_out.0.lora.", ".processor.to_out_lora."}});
  };
  ExpectSame(Must(FromTensors(Renamed(lora, old))), lora);
}

TEST(LoraTest, PeftSpelling) {
  const Lora lora = MakeLora();
  const auto peft = [&](const std::string& prefix, const std::string& adapter) {
    return Renamed(lora, [&](const std::string& name) {
      return prefix + absl::StrReplaceAll(name.substr(5), {{"lora.down.", "lora_A." + adapter},
                                                           {"lora.up.", "lora_B." + adapter}});
    });
  };
  EXPECT_TRUE(peft("", "").contains(
      "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"));
  for (const char* prefix : {"", "unet.", "base_model.model.", "base_model.model.unet."}) {
    for (const char* adapter : {"", "default.", "my_adapter."})
      ExpectSame(Must(FromTensors(peft(prefix, adapter))), lora);
  }
}

TEST(LoraTest, KohyaSpellingWithAlpha) {
  const Lora lora = MakeLora(2, 8.0);
  TensorMap tensors = Renamed(lora, [](const std::string& name) {
    const size_t end = name.find(".lora.");
    return "lora_unet_" + absl::StrReplaceAll(name.substr(5, end - 5), {{".", "_"}}) +
           absl::StrReplaceAll(name.substr(end), {{".lora.", ".lora_"}});
  });
  EXPECT_TRUE(tensors.contains(
      "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"));
  EXPECT_DOUBLE_EQ(Must(FromTensors(tensors)).modules()[0].alpha, 2.0) << "no alpha: the rank";
  for (const Lora::Module& module : lora.modules()) {
    tensors["lora_unet_" + absl::StrReplaceAll(module.path, {{".", "_"}}) + ".alpha"] =
        at::scalar_tensor(8.0, at::kHalf);
  }
  ExpectSame(Must(FromTensors(tensors)), lora);
}

TEST(LoraTest, AlphaComesFromTheFileBeforeTheCaller) {
  const Lora lora = MakeLora(2, 2.0);
  TensorMap tensors = lora.ToTensors();
  EXPECT_DOUBLE_EQ(Must(FromTensors(tensors)).modules()[0].scale, 1.0);
  EXPECT_DOUBLE_EQ(Must(FromTensors(tensors, 6.0)).modules()[0].scale, 3.0);
  const auto with_header = [&](const std::string& header) {
    return Lora::FromTensors(tensors, {{"lora_adapter_metadata", header}}, "f", Linears(), 6.0);
  };
  EXPECT_DOUBLE_EQ(Must(with_header(R"({"unet.lora_alpha": 5})")).modules()[0].alpha, 5.0);
  const auto patterned =
      with_header(R"({"unet.lora_alpha": 5, "unet.alpha_pattern": {"attn2.to_k": 7}})");
  ASSERT_TRUE(patterned.ok()) << patterned.status();
  EXPECT_DOUBLE_EQ(patterned->modules()[0].alpha, 5.0);
  EXPECT_DOUBLE_EQ(patterned->modules()[2].alpha, 7.0);
  tensors["unet." + lora.modules()[0].path + ".alpha"] = at::scalar_tensor(3.0);
  EXPECT_DOUBLE_EQ(Must(with_header(R"({"unet.lora_alpha": 5})")).modules()[0].alpha, 3.0);
  for (const char* bad : {"[", R"({"unet.use_dora": true})", R"({"unet.use_rslora": true})",
                          R"({"unet.alpha_pattern": {".*to_k": 7}})"}) {
    EXPECT_THAT(std::string(with_header(bad).status().message()),
                HasSubstr("lora_adapter_metadata"))
        << bad;
  }
}

TEST(LoraTest, FileKeepsRanksAndAlphasOfEveryModule) {
  const TempDir dir;
  for (const double alpha : {2.0, 8.0, 0.5}) {
    const Lora lora = MakeLora(2, alpha);
    const std::string path = dir / "pytorch_lora_weights.safetensors";
    ASSERT_TRUE(lora.Save(path).ok());
    const auto loaded = Lora::Load(path, Linears(), 99.0);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ExpectSame(*loaded, lora);
  }
  // Modules that differ from each other.
  const std::string a = Linears()[0].path, b = Linears()[1].path;
  TensorMap mixed = {{a + ".lora_A.weight", at::randn({1, 6})},
                     {a + ".lora_B.weight", at::randn({5, 1})},
                     {b + ".lora_A.weight", at::randn({3, 6})},
                     {b + ".lora_B.weight", at::randn({6, 3})},
                     {b + ".alpha", at::scalar_tensor(1.5)}};
  const auto lora = FromTensors(mixed);
  ASSERT_TRUE(lora.ok()) << lora.status();
  ASSERT_TRUE(lora->Save(dir / "mixed.safetensors").ok());
  ExpectSame(Must(Lora::Load(dir / "mixed.safetensors", Linears())), *lora);
}

TEST(LoraTest, EveryKeyIsUsedOrRefusedByName) {
  const TensorMap good = MakeLora().ToTensors();
  const std::string to_q = "unet." + Linears()[1].path, conv = "unet.conv_in";
  const auto error = [&](const std::string& key, const at::Tensor& tensor) {
    TensorMap tensors = good;
    tensors[key] = tensor;
    const auto lora = FromTensors(tensors);
    EXPECT_EQ(lora.status().code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(lora.status().message()), HasSubstr("file.safetensors: "));
    return std::string(lora.status().message());
  };
  EXPECT_THAT(error(conv + ".lora.down.weight", at::ones({2, 4, 3, 3})),
              AllOf(HasSubstr(conv), HasSubstr("convolutions")));
  EXPECT_THAT(error("lora_unet_up_blocks_9_to_q.lora_down.weight", at::ones({2, 4})),
              HasSubstr("lora_unet_up_blocks_9_to_q"));
  EXPECT_THAT(error("lora_te_text_model_q.lora_down.weight", at::ones({2, 4})),
              HasSubstr("text encoder"));
  EXPECT_THAT(error("text_encoder.q_proj.lora_A.weight", at::ones({2, 4})),
              HasSubstr("text encoder"));
  EXPECT_THAT(error(to_q + ".dora_scale", at::ones({6})),
              AllOf(HasSubstr("dora_scale"), HasSubstr("DoRA")));
  EXPECT_THAT(error(to_q + ".lora_B.bias", at::ones({6})), HasSubstr("lora_B.bias"));
  EXPECT_THAT(error(to_q + ".lora_A.weight", at::ones({2, 6})), HasSubstr("says again"));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({2, 7})),
              AllOf(HasSubstr("[2, 7]"), HasSubstr("[rank, 6]")));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({3, 6})), HasSubstr("[3, 6]"));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({2, 6}, at::kInt)),
              HasSubstr("floating point"));
  EXPECT_THAT(error(to_q + ".alpha", at::ones({2})), HasSubstr("one number"));
  EXPECT_THAT(error(to_q + ".alpha", at::scalar_tensor(NAN)), HasSubstr("not finite"));
  TensorMap partner_gone = good;
  partner_gone.erase(to_q + ".lora.up.weight");
  EXPECT_THAT(std::string(FromTensors(partner_gone).status().message()), HasSubstr("no up matrix"));
  EXPECT_THAT(std::string(FromTensors({}).status().message()), HasSubstr("no tensors"));
}

TEST(LoraTest, BadFiles) {
  const TempDir dir;
  EXPECT_EQ(Lora::Load(dir / "gone.safetensors", Linears()).status().code(),
            absl::StatusCode::kNotFound);
  const std::string path = dir / "short.safetensors";
  ASSERT_TRUE(MakeLora().Save(path).ok());
  std::filesystem::resize_file(path, 1000);
  EXPECT_THAT(std::string(Lora::Load(path, Linears()).status().message()), HasSubstr(path));
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
  EXPECT_TRUE(hashes.insert(Must(FromTensors(lora.ToTensors(), 2.0 + 1e-12)).Hash()).second)
      << "alpha";
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
