#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/model_config/text_encoder_config.h"
#include "common/model_config/unet_config.h"
#include "common/model_config/vae_config.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kModels[] = "tests/data/parity/models/";

json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

/// A change of one field and, for refusals, what the message must say beside file, field and value.
struct Change {
  std::string key;
  json value;
  std::string says = "";
};

class ModelConfigTest : public testing::Test {
 protected:
  std::string Write(const json& config) { return dir_.Write("config.json", config.dump()); }

  template <typename Config>
  void ExpectRefused(json config, const Change& change) {
    config[change.key] = change.value;
    const std::string path = Write(config);
    const auto loaded = Config::Load(path);
    ASSERT_FALSE(loaded.ok()) << change.key << " = " << change.value;
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(loaded.status().message());
    EXPECT_THAT(message, HasSubstr(path));
    EXPECT_THAT(message, HasSubstr(change.key));
    EXPECT_THAT(message, HasSubstr(change.value.is_string() ? change.value.get<std::string>()
                                                            : change.value.dump()));
    EXPECT_THAT(message, HasSubstr(change.says));
  }

  template <typename Config>
  void ExpectAccepted(json config, const Change& change) {
    config[change.key] = change.value;
    const auto loaded = Config::Load(Write(config));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
  }

  TempDir dir_;
};

TEST_F(ModelConfigTest, UnetOfStableDiffusion15AsItsFirstFileSaysIt) {
  const json config = json::parse(R"({
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})");
  const auto unet = UnetConfig::Load(Write(config));
  ASSERT_TRUE(unet.ok()) << unet.status();
  EXPECT_EQ(unet->sample_size, 64);
  EXPECT_EQ(unet->cross_attention_dim, 768);
  EXPECT_EQ(unet->time_embedding_dim, 1280);
  EXPECT_FALSE(unet->use_linear_projection);
  EXPECT_FALSE(unet->upcast_attention);
  EXPECT_TRUE(unet->mid_block);
  ASSERT_EQ(unet->levels.size(), 4u);
  EXPECT_EQ(unet->levels[3].channels, 1280);
  EXPECT_EQ(unet->levels[0].num_heads, 8);
  EXPECT_TRUE(unet->levels[2].down_attention);
  EXPECT_FALSE(unet->levels[3].down_attention);
  EXPECT_THAT(unet->up_attention, ElementsAre(false, true, true, true));
  EXPECT_THAT(unet->levels[0].up_transformer_layers, ElementsAre(1, 1, 1));
}

TEST_F(ModelConfigTest, UnetListsAreFilledIn) {
  json config = ReadJson(std::string(kModels) + "unusual/unet/config.json");
  config["transformer_layers_per_block"] = json::parse("[[3, 1], [2]]");
  config["reverse_transformer_layers_per_block"] = json::parse("[[1, 2], [4, 5, 6]]");
  config["num_attention_heads"] = 2;
  config["sample_size"] = {8, 8};
  const auto unet = UnetConfig::Load(Write(config));
  ASSERT_TRUE(unet.ok()) << unet.status();
  EXPECT_EQ(unet->sample_size, 8);
  EXPECT_THAT(unet->levels[0].down_transformer_layers, ElementsAre(3, 1));
  EXPECT_THAT(unet->levels[0].up_transformer_layers, ElementsAre(4, 5, 6));
  EXPECT_THAT(unet->levels[1].up_transformer_layers, ElementsAre(1, 2));
  EXPECT_EQ(unet->mid_transformer_layers, 2);
  EXPECT_TRUE(unet->levels[0].only_cross_attention);
  EXPECT_FALSE(unet->levels[1].only_cross_attention);
  EXPECT_EQ(unet->levels[1].num_heads, 2) << "num_attention_heads goes before attention_head_dim";
  EXPECT_EQ(unet->act, Activation::kGelu);
  EXPECT_EQ(unet->time_embedding_dim, 24);
}

TEST_F(ModelConfigTest, UnetRefusesWhatIsNotBuilt) {
  const json config = ReadJson(std::string(kModels) + "sd1/unet/config.json");
  const std::vector<Change> refused = {
      {"_class_name", "FluxTransformer2DModel", "UNet2DConditionModel"},
      {"class_embed_type", "timestep", "null"},
      {"num_class_embeds", 10, "null"},
      {"addition_embed_type", "text_time", "null"},
      {"encoder_hid_dim", 1024, "null"},
      {"time_cond_proj_dim", 256, "null"},
      {"time_embedding_type", "fourier", "positional"},
      {"timestep_post_act", "silu", "null"},
      {"resnet_time_scale_shift", "scale_shift", "default"},
      {"dropout", 0.1, "0.0"},
      {"dual_cross_attention", true, "false"},
      {"conv_in_kernel", 5, "3"},
      {"mid_block_type", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2DCrossAttn"},
      {"down_block_types", {"SimpleCrossAttnDownBlock2D", "DownBlock2D"}, "CrossAttnDownBlock2D"},
      {"up_block_types", {"UpBlock2D"}, "expected 2"},
      {"attention_type", "gated", "default"},
      {"act_fn", "tanh", "silu"},
      {"norm_num_groups", nullptr, "leave it out"},
      {"cross_attention_dim", nullptr, "leave it out"},
      {"attention_head_dim", nullptr, "leave it out"},
      {"flip_sin_to_cos", nullptr, "Python takes it for false"},
      {"norm_num_groups", 3, ""},
      {"norm_num_groups", 0, "at least 1"},
      {"block_out_channels", {8, 16.5}, "integer"},
      {"block_out_channels", json::array(), "list"},
      {"block_out_channels", {8, 1e300}, "integer"},
      {"layers_per_block", {1, 1, 1}, "one for each block"},
      {"layers_per_block", 1000000, "at most"},
      {"attention_head_dim", {2}, "one for each block"},
      {"attention_head_dim", 99, "more heads"},
      {"cross_attention_dim", {8, 16}, "same width"},
      {"transformer_layers_per_block", {1, 0}, "whole numbers"},
      {"transformer_layers_per_block", {{1}, {1}}, "reverse_transformer_layers_per_block"},
      {"sample_size", {8, 16}, "equal height and width"},
      {"center_input_sample", "yes", "true or false"},
      {"a_field_of_next_year", 3, "unknown field"},
  };
  for (const Change& change : refused) {
    if (change.key == "norm_num_groups" &&
        change.value == 3) {  // Reported at the field that it does not fit.
      json changed = config;
      changed[change.key] = change.value;
      const auto loaded = UnetConfig::Load(Write(changed));
      EXPECT_THAT(std::string(loaded.status().message()),
                  HasSubstr("multiples of norm_num_groups, 3"));
      continue;
    }
    ExpectRefused<UnetConfig>(config, change);
  }
}

TEST_F(ModelConfigTest, UnetAcceptsFeaturesThatAreOff) {
  const json config = ReadJson(std::string(kModels) + "sd2/unet/config.json");
  for (const Change& change : std::vector<Change>{{"class_embed_type", nullptr},
                                                  {"dropout", 0},
                                                  {"resnet_time_scale_shift", "default"},
                                                  {"mid_block_only_cross_attention", false},
                                                  {"act_fn", "swish"},
                                                  {"layers_per_block", 1.0},
                                                  {"_name_or_path", "somewhere"},
                                                  {"sample_size", nullptr},
                                                  {"num_attention_heads", nullptr},
                                                  {"upcast_attention", nullptr},
                                                  {"only_cross_attention", nullptr},
                                                  {"dual_cross_attention", nullptr},
                                                  {"resnet_time_scale_shift", nullptr},
                                                  {"norm_eps", nullptr},
                                                  {"cross_attention_dim", {8, 8}}}) {
    ExpectAccepted<UnetConfig>(config, change);
  }
}

TEST_F(ModelConfigTest, NullIsTheDefaultAndSaysSoWhereItIsANumber) {
  json config = ReadJson(std::string(kModels) + "sd1/unet/config.json");
  config["upcast_attention"] = nullptr;
  config["norm_eps"] = nullptr;
  std::vector<std::string> warnings;
  const auto unet = UnetConfig::Load(Write(config), &warnings);
  ASSERT_TRUE(unet.ok()) << unet.status();
  EXPECT_FALSE(unet->upcast_attention);
  EXPECT_EQ(unet->norm_eps, 1e-5);
  EXPECT_THAT(warnings,
              ElementsAre(dir_ / "config.json" + ": norm_eps = null: read as the default, 1e-05"));
}

TEST_F(ModelConfigTest, BookkeepingSaysNothingOfTheNetwork) {
  const json bookkeeping = json::parse(R"({
    "decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 52000,
    "power": 0.6667, "update_after_step": 0, "use_ema_warmup": false, "collected_params": null,
    "_class_name": null, "_name_or_path": "/models/sd", "_diffusers_version": "0.14.0",
    "_commit_hash": "ab", "_use_default_values": ["dropout"], "_anything": [1],
    "architectures": ["X"], "torch_dtype": "float16", "dtype": "float16",
    "transformers_version": "4.26.0"})");
  std::vector<std::string> warnings;
  const auto with = [&](const std::string& part) {
    json config = ReadJson(std::string(kModels) + "sd1/" + part + "/config.json");
    const json class_name = config.value("_class_name", json());
    config.update(bookkeeping);
    config["_class_name"] = class_name;
    if (class_name.is_null()) config.erase("_class_name");
    return Write(config);
  };
  EXPECT_TRUE(UnetConfig::Load(with("unet"), &warnings).ok());
  EXPECT_TRUE(VaeConfig::Load(with("vae"), &warnings).ok());
  EXPECT_TRUE(TextEncoderConfig::Load(with("text_encoder"), &warnings).ok());
  EXPECT_THAT(warnings, IsEmpty());
}

TEST_F(ModelConfigTest, AnUnknownFieldThatIsNullIsAWarning) {
  json config = ReadJson(std::string(kModels) + "sd1/unet/config.json");
  config["of_a_newer_version"] = nullptr;
  std::vector<std::string> warnings;
  EXPECT_TRUE(UnetConfig::Load(Write(config), &warnings).ok());
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("of_a_newer_version = null: unknown field")));
  config["of_a_newer_version"] = false;
  EXPECT_THAT(std::string(UnetConfig::Load(Write(config)).status().message()),
              HasSubstr("of_a_newer_version = false: unknown field, not supported"));
}

TEST_F(ModelConfigTest, EveryProblemIsNamedAtOnce) {
  json config = ReadJson(std::string(kModels) + "sd1/unet/config.json");
  config["class_embed_type"] = "timestep";
  config["act_fn"] = "tanh";
  config["surprise"] = 1;
  const std::string message(UnetConfig::Load(Write(config)).status().message());
  for (const char* key : {"class_embed_type", "act_fn", "surprise"})
    EXPECT_THAT(message, HasSubstr(key));
}

TEST_F(ModelConfigTest, Vae) {
  json config = ReadJson(std::string(kModels) + "sd1/vae/config.json");
  config["sample_size"] = {16};
  const auto vae = VaeConfig::Load(Write(config));
  ASSERT_TRUE(vae.ok()) << vae.status();
  EXPECT_EQ(vae->downscale(), 2);
  EXPECT_DOUBLE_EQ(vae->scaling_factor, 0.18215);
  for (const Change& change : std::vector<Change>{
           {"_class_name", "AutoencoderTiny", "AutoencoderKL"},
           {"shift_factor", 0.1, "supported: 0"},
           {"latents_mean", {0.1}, "null"},
           {"scaling_factor", 0, "not be 0"},
           {"down_block_types", {"AttnDownEncoderBlock2D", "DownEncoderBlock2D"}, ""},
           {"up_block_types", {"UpDecoderBlock2D"}, "expected 2"},
           {"act_fn", "quick_gelu", "silu"},
           {"use_quant_conv", nullptr, "Python takes it for false"},
           {"block_out_channels", {4, 7}, "multiples"},
           {"surprise", 1, "unknown field"}}) {
    ExpectRefused<VaeConfig>(config, change);
  }
  for (const Change& change : std::vector<Change>{{"force_upcast", false},
                                                  {"sample_size", nullptr},
                                                  {"scaling_factor", nullptr},
                                                  {"shift_factor", 0.0}}) {
    ExpectAccepted<VaeConfig>(config, change);
  }
}

TEST_F(ModelConfigTest, TextEncoder) {
  const json config = ReadJson(std::string(kModels) + "sd1/text_encoder/config.json");
  const auto text = TextEncoderConfig::Load(Write(config));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->hidden_act, Activation::kQuickGelu);
  EXPECT_EQ(text->max_position_embeddings, 16);
  for (const Change& change : std::vector<Change>{{"model_type", "xlm-roberta", "clip_text_model"},
                                                  {"hidden_act", "gelu_new", "quick_gelu"},
                                                  {"num_attention_heads", 3, "divide hidden_size"},
                                                  {"is_decoder", true, "false"},
                                                  {"hidden_act", nullptr, "leave it out"},
                                                  {"surprise", 1, "unknown field"}}) {
    ExpectRefused<TextEncoderConfig>(config, change);
  }
  ExpectAccepted<TextEncoderConfig>(config, {"projection_dim", 1024});
  ExpectAccepted<TextEncoderConfig>(config, {"torch_dtype", "float16"});
}

TEST_F(ModelConfigTest, FilesThatAreNoConfig) {
  const auto missing = UnetConfig::Load(dir_ / "nowhere.json");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("nowhere.json"));
  for (const char* text : {"", "{", "[1]", "\"UNet2DConditionModel\""}) {
    const auto loaded = UnetConfig::Load(dir_.Write("config.json", text));
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("not a JSON object")) << text;
  }
}

TEST_F(ModelConfigTest, FilesOfAnotherEncodingAreRefusedByName) {
  const auto error = [this](const std::string& text) {
    return std::string(UnetConfig::Load(dir_.Write("config.json", text)).status().message());
  };
  EXPECT_EQ(error("{\n\"_name_or_path\": \"caf\xe9\"\n}"),
            dir_ / "config.json" +
                ":2: the line is not UTF-8: \"_name_or_path\": \"caf\\xE9\"; "
                "save the file as UTF-8");
  EXPECT_THAT(error(std::string("\xff\xfe{\0}\0", 6)), HasSubstr("save it as UTF-8"));
  EXPECT_THAT(error("{\"act_fn\": \"" + std::string(114, 'x') + "\u00e9\u00e9\u00e9\"}"),
              HasSubstr("x\u00e9\u00e9…"))
      << "cut between characters";
}

}  // namespace
}  // namespace imageddpo
