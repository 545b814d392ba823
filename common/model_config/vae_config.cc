#include "common/model_config/vae_config.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model_config/json_config.h"

namespace imageddpo {
namespace {

void CheckBlockTypes(JsonConfig& json, const std::string& key, const std::string& supported,
                     size_t blocks) {
  const std::vector<std::string> types = json.Strings(key, {supported});
  if (types.size() != blocks)
    json.Refuse(key, absl::StrCat("expected ", blocks, ", as block_out_channels has"));
  for (const std::string& type : types) {
    if (type != supported) json.Refuse(key, absl::StrCat("supported: ", supported));
  }
}

}  // namespace

absl::StatusOr<VaeConfig> VaeConfig::Load(const std::string& config_json,
                                          std::vector<std::string>* warnings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JsonConfig json,
                             JsonConfig::Open(config_json, "_class_name", {"AutoencoderKL"}));

  VaeConfig config;
  json.RefuseNull({"block_out_channels", "layers_per_block", "norm_num_groups"});
  config.in_channels = json.Int("in_channels", 3);
  config.out_channels = json.Int("out_channels", 3);
  config.latent_channels = json.Int("latent_channels", 4);
  config.block_out_channels = json.Ints("block_out_channels", {64});
  config.layers_per_block = json.Int("layers_per_block", 1);
  constexpr int64_t kMaxLayers =
      100;  // Real models have 2; keeps a mad file from filling the memory.
  if (config.layers_per_block > kMaxLayers)
    json.Refuse("layers_per_block", absl::StrCat("at most ", kMaxLayers));
  config.norm_num_groups = json.Int("norm_num_groups", 32);
  for (const int64_t channels : config.block_out_channels) {
    if (channels % config.norm_num_groups == 0) continue;
    json.Refuse("block_out_channels",
                absl::StrCat("must be multiples of norm_num_groups, ", config.norm_num_groups));
  }
  const std::string act = json.String("act_fn", "silu");
  config.act = ParseActivation(act).value_or(Activation::kQuickGelu);
  if (config.act == Activation::kQuickGelu)
    json.Refuse("act_fn", "supported: silu, swish, gelu, mish, relu");
  if (!json.IsNull("sample_size"))
    config.sample_size = json.IntPerLevel("sample_size", 32, 1).front();
  config.scaling_factor = json.Double("scaling_factor", 0.18215);
  if (config.scaling_factor == 0) json.Refuse("scaling_factor", "must not be 0");
  config.use_quant_conv = json.Bool("use_quant_conv", true);
  config.use_post_quant_conv = json.Bool("use_post_quant_conv", true);
  config.mid_block_add_attention = json.Bool("mid_block_add_attention", true);
  CheckBlockTypes(json, "down_block_types", "DownEncoderBlock2D", config.block_out_channels.size());
  CheckBlockTypes(json, "up_block_types", "UpDecoderBlock2D", config.block_out_channels.size());

  json.Neutral("shift_factor", 0);
  json.Neutral("latents_mean");
  json.Neutral("latents_std");
  // force_upcast asks for what ModelOptions::dtype decides.
  json.Ignore({"force_upcast"});

  IMAGEDDPO_RETURN_IF_ERROR(json.Finish(warnings));
  return config;
}

}  // namespace imageddpo
