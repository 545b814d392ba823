// LoRA files in every spelling, where alpha may stand, and what is refused or left out.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/lora/lora.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/lora/small_lora.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string Error(const absl::StatusOr<Lora>& lora) {
  EXPECT_EQ(lora.status().code(), absl::StatusCode::kInvalidArgument) << lora.status();
  return std::string(lora.status().message());
}

/// The tensors of `lora` under other names.
TensorMap Renamed(const Lora& lora, const std::function<std::string(std::string)>& rename) {
  TensorMap tensors;
  for (const auto& [name, tensor] : lora.ToTensors()) tensors[rename(name)] = tensor;
  return tensors;
}

TEST(LoraFile, DiffusersSpelling) {
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

TEST(LoraFile, PeftSpelling) {
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

TEST(LoraFile, KohyaSpellingWithAlpha) {
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

TEST(LoraFile, AlphaIsReadWithEveryTypeAndShape) {
  const Lora lora = MakeLora(2, 8.0);
  const auto with_alpha = [&](const at::Tensor& alpha) {
    TensorMap tensors = lora.ToTensors();
    for (const Lora::Module& module : lora.modules()) {
      tensors["unet." + module.path + ".alpha"] = alpha;
    }
    return FromTensors(tensors);
  };
  for (const at::ScalarType type :
       {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort}) {
    ExpectSame(Must(with_alpha(at::scalar_tensor(8, type))), lora);
    ExpectSame(Must(with_alpha(at::full({1}, 8, type))), lora);
  }
}

TEST(LoraFile, AlphaComesFromTheTensorThenTheHeaderThenTheRank) {
  const Lora lora = MakeLora(2, 2.0);
  TensorMap tensors = lora.ToTensors();
  EXPECT_DOUBLE_EQ(Must(FromTensors(tensors)).modules()[0].scale, 1.0);
  const auto with_header = [&](const std::string& header) {
    return Lora::FromTensors(tensors, {{"lora_adapter_metadata", header}}, "f", Linears());
  };
  // diffusers' save_lora_weights has prefixes, its save_lora_adapter has none.
  for (const std::string p : {"unet.", ""}) {
    const auto header = [&](const std::string& fields) {
      return with_header(absl::StrReplaceAll(fields, {{"@", p}}));
    };
    EXPECT_DOUBLE_EQ(Must(header(R"({"@lora_alpha": 5})")).modules()[0].alpha, 5.0);
    EXPECT_DOUBLE_EQ(Must(header(R"({"@lora_alpha": 5, "@use_rslora": true})")).modules()[0].scale,
                     5.0 / std::sqrt(2.0));
    const Lora patterned =
        Must(header(R"({"@lora_alpha": 5, "@alpha_pattern": {"attn2.to_k": 7, ".*to_[kq]": 9}})"));
    EXPECT_DOUBLE_EQ(patterned.modules()[0].alpha, 5.0);
    EXPECT_DOUBLE_EQ(patterned.modules()[1].alpha, 9.0);
    EXPECT_DOUBLE_EQ(patterned.modules()[2].alpha, 7.0) << "the first pattern counts";
    EXPECT_THAT(
        Error(header(R"({"@use_dora": true, "@bias": "all"})")),
        AllOf(HasSubstr("lora_adapter_metadata"), HasSubstr("use_dora"), HasSubstr("bias")));
    EXPECT_THAT(Error(header(R"({"@r": 8, "@lora_alpha": 8})")),
                AllOf(HasSubstr("3 modules of another rank"), HasSubstr("2, expected 8")));
  }
  EXPECT_DOUBLE_EQ(Must(with_header(R"({"text_encoder.lora_alpha": 5})")).modules()[0].scale, 1.0);
  EXPECT_THAT(Error(with_header("[")), HasSubstr("lora_adapter_metadata"));
  tensors["unet." + lora.modules()[0].path + ".alpha"] = at::scalar_tensor(3.0);
  EXPECT_DOUBLE_EQ(Must(with_header(R"({"unet.lora_alpha": 5})")).modules()[0].alpha, 3.0);
}

TEST(LoraFile, AFolderOfPeftHasItsAlphaBesideTheWeights) {
  const TempDir dir;
  const Lora lora = MakeLora(2, 2.0);
  const TensorMap peft = Renamed(lora, [](const std::string& name) {
    return "base_model.model." + absl::StrReplaceAll(name.substr(5), {{"lora.down.", "lora_A."},
                                                                      {"lora.up.", "lora_B."}});
  });
  const std::string folder = dir / "adapter", file = folder + "/adapter_model.safetensors";
  dir.Write("adapter/adapter_config.json",
            R"({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": false,
                "target_modules": ["to_q"], "peft_version": "0.17.0", "modules_to_save": null})");
  ASSERT_TRUE(WriteSafetensors(file, peft).ok());
  // What other programs wrote beside it is not PEFT's.
  ASSERT_TRUE(WriteSafetensors(folder + "/other.safetensors", lora.ToTensors()).ok());
  for (const std::string& path : {folder, file}) {
    const Lora loaded = Must(Lora::Load(path, Linears()));
    EXPECT_DOUBLE_EQ(loaded.modules()[0].scale, 4.0) << path;
  }
  EXPECT_DOUBLE_EQ(Must(Lora::Load(folder + "/other.safetensors", Linears())).modules()[0].scale,
                   1.0);
  dir.Write("adapter/adapter_config.json", R"({"peft_type": "LOHA"})");
  EXPECT_THAT(Error(Lora::Load(folder, Linears())),
              AllOf(HasSubstr("adapter_config.json"), HasSubstr("LOHA")));
  std::filesystem::remove(folder + "/adapter_config.json");
  std::vector<std::string> warnings;
  EXPECT_DOUBLE_EQ(Must(Lora::Load(file, Linears(), {.warnings = &warnings})).modules()[0].scale,
                   1.0);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("adapter_config.json is not beside it")));
}

TEST(LoraFile, WrappersPrefixesAreTakenOff) {
  const Lora lora = MakeLora();
  for (const char* prefix : {"_orig_mod.", "module.", "unet._orig_mod.", "diffusion_model.",
                             "base_model.model.module."}) {
    const auto wrapped = [&](const std::string& name) { return prefix + name.substr(5); };
    ExpectSame(Must(FromTensors(Renamed(lora, wrapped))), lora);
  }
  for (const char* layer : {".lora_layer.", ".lora_linear_layer."}) {
    ExpectSame(Must(FromTensors(Renamed(lora,
                                        [&](const std::string& name) {
                                          return absl::StrReplaceAll(name, {{".lora.", layer}});
                                        }))),
               lora);
  }
}

/// What kohya's scripts write for a network with the text encoder and with larger convolutions.
TensorMap WithUntrained(const Lora& lora) {
  TensorMap tensors = lora.ToTensors();
  for (const std::string module : {"lora_te_text_model_encoder_layers_0_self_attn_q_proj",
                                   "lora_te1_text_model_encoder_layers_1_mlp_fc1"}) {
    tensors[module + ".lora_down.weight"] = at::ones({2, 4});
    tensors[module + ".lora_up.weight"] = at::ones({4, 2});
    tensors[module + ".alpha"] = at::scalar_tensor(1);
  }
  tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"] = at::ones({2, 4, 3, 3});
  tensors["lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"] = at::ones({4, 2, 1, 1});
  tensors["lora_unet_down_blocks_0_resnets_0_conv1.alpha"] = at::scalar_tensor(1);
  tensors["lora_unet_up_blocks_0_resnets_0_conv2.lora_down.weight"] = at::ones({2, 4, 1, 1});
  tensors["lora_unet_up_blocks_0_resnets_0_conv2.lora_mid.weight"] = at::ones({2, 2, 3, 3});
  tensors["lora_unet_up_blocks_0_resnets_0_conv2.lora_up.weight"] = at::ones({4, 2, 1, 1});
  return tensors;
}

TEST(LoraFile, WhatIsNotTrainedIsRefusedOnceOrSkippedWithAWarning) {
  const Lora lora = MakeLora();
  const TensorMap tensors = WithUntrained(lora);
  const std::string refusal = Error(FromTensors(tensors));
  EXPECT_THAT(refusal, AllOf(HasSubstr("6 keys of the text encoder"),
                             HasSubstr("6 keys of convolutions larger than 1×1"),
                             HasSubstr("`lora.unsupported_modules: skip`")));
  EXPECT_EQ(refusal.find("lora_te_"), std::string::npos) << "not each key: " << refusal;

  std::vector<std::string> warnings;
  const LoraReading skip = {.unsupported = UnsupportedModules::kSkip, .warnings = &warnings};
  ExpectSame(Must(Lora::FromTensors(tensors, {}, "f", Linears(), skip)), lora);
  EXPECT_THAT(warnings,
              ElementsAre(AllOf(HasSubstr("f: left out"), HasSubstr("6 keys of the text encoder"),
                                HasSubstr("6 keys of convolutions"))));
  TensorMap text_alone;
  for (const auto& [key, tensor] : tensors) {
    if (key.starts_with("lora_te")) text_alone[key] = tensor;
  }
  EXPECT_THAT(Error(Lora::FromTensors(text_alone, {}, "f", Linears(), skip)),
              HasSubstr("nothing in it is for the UNet"));
  TensorMap more = tensors;
  more["unet." + Linears()[1].path + ".dora_scale"] = at::ones({6});
  EXPECT_THAT(Error(Lora::FromTensors(more, {}, "f", Linears(), skip)), HasSubstr("DoRA"))
      << "what changes the modules that are read is never skipped";
}

TEST(LoraFile, KohyasHeaderIsOnlyHeldAgainstTheTensors) {
  const TensorMap tensors = MakeLora(2, 2.0).ToTensors();
  const auto warnings = [&](const std::map<std::string, std::string>& header) {
    std::vector<std::string> found;
    const Lora lora =
        Must(Lora::FromTensors(tensors, header, "f", Linears(), {.warnings = &found}));
    EXPECT_DOUBLE_EQ(lora.modules()[0].scale, 1.0);
    return found;
  };
  EXPECT_THAT(warnings({{"ss_network_alpha", "2.0"},
                        {"ss_network_dim", "2"},
                        {"ss_tag_frequency", "{}"},
                        {"modelspec.title", "a style"}}),
              IsEmpty());
  EXPECT_THAT(warnings({{"ss_network_dim", "Dynamic"}, {"ss_network_alpha", "None"}}), IsEmpty());
  EXPECT_THAT(warnings({{"ss_network_alpha", "1"}, {"ss_network_dim", "2"}}),
              ElementsAre(HasSubstr("ss_network_alpha 1")));
}

TEST(LoraFile, FileKeepsRanksAndAlphasOfEveryModule) {
  const TempDir dir;
  for (const double alpha : {2.0, 8.0, 0.5}) {
    const Lora lora = MakeLora(2, alpha);
    const std::string path = dir / "pytorch_lora_weights.safetensors";
    ASSERT_TRUE(lora.Save(path).ok());
    const auto loaded = Lora::Load(path, Linears());
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

TEST(LoraFile, EveryKeyIsUsedOrRefusedByName) {
  const TensorMap good = MakeLora().ToTensors();
  const std::string to_q = "unet." + Linears()[1].path;
  const auto error = [&](const std::string& key, const at::Tensor& tensor) {
    TensorMap tensors = good;
    tensors[key] = tensor;
    const std::string message = Error(FromTensors(tensors));
    EXPECT_THAT(message, HasSubstr("file.safetensors: "));
    return message;
  };
  EXPECT_THAT(error("unet.conv_in.lora.down.weight", at::ones({2, 4, 3, 3})),
              AllOf(HasSubstr("unet.conv_in"), HasSubstr("convolutions")));
  EXPECT_THAT(error("lora_unet_up_blocks_9_to_q.lora_down.weight", at::ones({2, 4})),
              AllOf(HasSubstr("lora_unet_up_blocks_9_to_q"), HasSubstr("does not have")));
  EXPECT_THAT(error("lora_te_text_model_q.lora_down.weight", at::ones({2, 4})),
              HasSubstr("text encoder"));
  EXPECT_THAT(error("text_encoder.q_proj.lora_A.weight", at::ones({2, 4})),
              HasSubstr("text encoder"));
  const std::pair<const char*, const char*> kinds[] = {{".dora_scale", "DoRA"},
                                                       {".lora_magnitude_vector", "DoRA"},
                                                       {".hada_w1_a", "LoHa"},
                                                       {".lokr_w1", "LoKr"},
                                                       {".oft_diag", "OFT"},
                                                       {".lora_B.bias", "biases"},
                                                       {".diff", "changes of whole"},
                                                       {".w_norm", "normalisation"},
                                                       {".something", "no kind that is known"}};
  for (const auto& [ending, kind] : kinds) {
    EXPECT_THAT(error(to_q + ending, at::ones({6})),
                AllOf(HasSubstr(to_q + ending), HasSubstr("1 key of "), HasSubstr(kind)));
  }
  EXPECT_THAT(error(to_q + ".lora_A.weight", at::ones({2, 6})), HasSubstr("says again"));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({2, 7})),
              AllOf(HasSubstr("[2, 7]"), HasSubstr("[rank, 6]")));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({3, 6})), HasSubstr("[3, 6]"));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({2, 6, 3, 3})), HasSubstr("[2, 6, 3, 3]"));
  EXPECT_THAT(error(to_q + ".lora.down.weight", at::ones({2, 6}, at::kInt)),
              HasSubstr("floating point"));
  EXPECT_THAT(error(to_q + ".alpha", at::ones({2})), HasSubstr("not one number"));
  EXPECT_THAT(error(to_q + ".alpha", at::scalar_tensor(NAN)), HasSubstr("not finite"));
  EXPECT_THAT(error(to_q + ".alpha", at::scalar_tensor(0)), HasSubstr("alpha that is 0"));
  TensorMap partner_gone = good;
  partner_gone.erase(to_q + ".lora.up.weight");
  EXPECT_THAT(Error(FromTensors(partner_gone)), HasSubstr("without an up matrix"));
  EXPECT_THAT(Error(FromTensors({})), HasSubstr("without tensors"));
}

TEST(LoraFile, AKindOfFaultIsNamedOnceAndCounted) {
  TensorMap tensors;
  for (int i = 0; i < 300; ++i) {
    tensors[absl::StrCat("unet.mid_block.layer", 100 + i, ".hada_w1_a")] = at::ones({2, 2});
  }
  EXPECT_EQ(Error(FromTensors(tensors)),
            "file.safetensors: 300 keys of LoHa (the first is unet.mid_block.layer100.hada_w1_a)");
}

TEST(LoraFile, BadFiles) {
  const TempDir dir;
  EXPECT_EQ(Lora::Load(dir / "gone.safetensors", Linears()).status().code(),
            absl::StatusCode::kNotFound);
  const std::string path = dir / "short.safetensors";
  ASSERT_TRUE(MakeLora().Save(path).ok());
  std::filesystem::resize_file(path, 1000);
  EXPECT_THAT(std::string(Lora::Load(path, Linears()).status().message()), HasSubstr(path));
}

}  // namespace
}  // namespace imageddpo
