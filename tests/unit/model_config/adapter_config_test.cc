#include "common/model_config/adapter_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kToQ[] = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
constexpr char kToOut[] = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0";

AdapterConfig Parse(const std::string& json) {
  const absl::StatusOr<AdapterConfig> config = AdapterConfig::Parse(json, "file");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(AdapterConfig());
}

std::string Refusal(const std::string& json) {
  const absl::Status status = AdapterConfig::Parse(json, "file").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
  EXPECT_THAT(std::string(status.message()), HasSubstr("file: "));
  return std::string(status.message());
}

TEST(AdapterConfig, ScalesFollowPeftsFormulas) {
  const AdapterConfig plain = Parse(R"({"r": 4, "lora_alpha": 16})");
  EXPECT_EQ(plain.RankOf(kToQ), 4);
  EXPECT_EQ(plain.AlphaOf(kToQ, 4), 16.0);
  const AdapterConfig stable = Parse(R"({"r": 4, "lora_alpha": 16, "use_rslora": true})");
  EXPECT_DOUBLE_EQ(*stable.AlphaOf(kToQ, 4) / 4, 16 / std::sqrt(4.0));
  EXPECT_EQ(Parse(R"({"r": 4})").AlphaOf(kToQ, 4), 8.0) << "PEFT's default";
  EXPECT_EQ(Parse(R"({"lora_alpha": 16})").RankOf(kToQ), std::nullopt);
  EXPECT_EQ(Parse("{}").AlphaOf(kToQ, 4), std::nullopt);
}

TEST(AdapterConfig, PatternsMatchAPathOrItsEnd) {
  const auto rank = [](const std::string& pattern, const std::string& path) {
    return *Parse(R"({"r": 4, "rank_pattern": {")" + pattern + R"(": 7}})").RankOf(path);
  };
  for (const char* pattern :
       {"to_q", "attn1.to_q", "attn..to_q",
        "^down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", ".*to_q", "^down_blocks.*",
        "attn1\\\\.to_(q|k)", "attn\\\\d+\\\\.to_q",
        "transformer_blocks\\\\.[0-9]\\\\.attn1\\\\.to_q$"}) {
    EXPECT_EQ(rank(pattern, kToQ), 7) << pattern;
    EXPECT_EQ(rank(pattern, kToOut), 4) << pattern;
  }
  for (const char* pattern : {"o_q", "^to_q", "^attn1.to_q", "to_", "attn1", "o_[qk]"}) {
    EXPECT_EQ(rank(pattern, kToQ), 4) << pattern;
  }
  const AdapterConfig ordered =
      Parse(R"({"lora_alpha": 1, "alpha_pattern": {"z.to_q": 2, "to_q": 3, "attn1.to_q": 4}})");
  EXPECT_EQ(ordered.AlphaOf(kToQ, 4), 3.0) << "the first one in the file that matches";
  EXPECT_THAT(Refusal(R"({"rank_pattern": {"(": 3}})"), HasSubstr(R"(rank_pattern["("])"));
  EXPECT_THAT(Refusal(R"({"rank_pattern": {"(a)\\1": 3}})"), HasSubstr("regular expression"))
      << "back-references take exponential time";
  EXPECT_THAT(Refusal(R"({"alpha_pattern": {"to_q": "x"}})"), HasSubstr("to_q"));
  EXPECT_THAT(Refusal(R"({"rank_pattern": {"to_q": 1.5}})"), HasSubstr("1.5"));
}

TEST(AdapterConfig, NoPatternTakesExponentialTime) {
  const AdapterConfig config = Parse(R"({"r": 4, "rank_pattern": {"((a*)*)*b": 7}})");
  EXPECT_EQ(config.RankOf(std::string(200, 'a')), 4);
}

TEST(AdapterConfig, ReadsWhatPeftWrites) {
  Parse(R"({"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
    "auto_mapping": {"base_model_class": "UNet2DConditionModel", "parent_library": "x"},
    "base_model_name_or_path": null, "bias": "none", "corda_config": null,
    "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null,
    "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": "gaussian",
    "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
    "loftq_config": {}, "lora_alpha": 16, "lora_bias": false, "lora_dropout": 0.1,
    "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
    "peft_type": "LORA", "peft_version": "0.17.0", "qalora_group_size": 16, "r": 4,
    "rank_pattern": {}, "revision": null, "target_modules": ["to_q"], "target_parameters": null,
    "task_type": null, "trainable_token_indices": null, "use_dora": false, "use_qalora": false,
    "use_rslora": false})");
}

TEST(AdapterConfig, RefusesByNameWhatIsMoreThanALowRankProduct) {
  for (const char* field :
       {R"("use_dora": true)", R"("lora_bias": true)", R"("bias": "all")", R"("bias": "lora_only")",
        R"("modules_to_save": ["conv_in"])", R"("peft_type": "LOKR")", R"("use_qalora": true)",
        R"("layer_replication": [[0, 1]])", R"("target_parameters": ["w"])",
        R"("trainable_token_indices": [1])", R"("init_lora_weights": "pissa")",
        R"("init_lora_weights": "pissa_niter_16")", R"("init_lora_weights": "olora")",
        R"("a_field_of_next_year": true)", R"("r": 0)", R"("r": "4")", R"("lora_alpha": "x")",
        R"("use_rslora": 1)"}) {
    const std::string text = field;
    EXPECT_THAT(Refusal("{" + text + "}"), HasSubstr(text.substr(1, text.find('"', 1) - 1)));
  }
  EXPECT_THAT(Refusal(R"({"use_dora": true, "bias": "all", "lora_alpha": 4})"),
              AllOf(HasSubstr("use_dora"), HasSubstr("bias")));
  EXPECT_THAT(Refusal("[]"), HasSubstr("not a JSON object"));
}

TEST(AdapterConfig, OfSeveralNetworksTheUnetsCounts) {
  const AdapterConfig config = Parse(
      R"({"unet.lora_alpha": 16, "text_encoder.lora_alpha": 2, "text_encoder.use_dora": true})");
  EXPECT_EQ(config.AlphaOf(kToQ, 4), 16.0);
  EXPECT_EQ(Parse(R"({"text_encoder.lora_alpha": 2})").AlphaOf(kToQ, 4), std::nullopt);
}

TEST(FindLoraFile, KnowsTheNamesThatProgramsGive) {
  const TempDir dir;
  const auto found = [&](const std::string& folder) {
    const absl::StatusOr<std::string> file = FindLoraFile(dir / folder);
    return file.ok() ? std::filesystem::path(*file).filename().string()
                     : std::string(file.status().message());
  };
  dir.Write("peft/adapter_config.json", "{}");
  dir.Write("peft/adapter_model.safetensors", "");
  dir.Write("peft/pytorch_lora_weights.safetensors", "");
  EXPECT_EQ(found("peft"), "adapter_model.safetensors");
  dir.Write("checkpoint/pytorch_lora_weights.safetensors", "");
  dir.Write("checkpoint/optimizer.safetensors", "");
  EXPECT_EQ(found("checkpoint"), "pytorch_lora_weights.safetensors");
  dir.Write("one/style.safetensors", "");
  dir.Write("one/readme.txt", "");
  EXPECT_EQ(found("one"), "style.safetensors");
  EXPECT_EQ(found("one/style.safetensors"), "style.safetensors");
  dir.Write("two/b.safetensors", "");
  dir.Write("two/a.safetensors", "");
  EXPECT_THAT(found("two"), HasSubstr("a.safetensors, b.safetensors"));
  dir.Write("pickle/adapter_model.bin", "");
  EXPECT_THAT(found("pickle"), AllOf(HasSubstr("adapter_model.bin"), HasSubstr("pickle")));
  dir.Write("none/readme.txt", "");
  EXPECT_THAT(found("none"), HasSubstr("no LoRA in it"));
}

}  // namespace
}  // namespace imageddpo
