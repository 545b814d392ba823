#include "common/model_config/unet_config.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model_config/json_config.h"

namespace imageddpo {
namespace {

constexpr int64_t kMaxLayers =
    100;  // Real models have at most 10; keeps a mad file from filling the memory.

/// One entry of a transformer depth list: a number for all layers of the block, or one number for
/// each layer.
std::optional<std::vector<int64_t>> Depths(const nlohmann::json& entry, int64_t layers) {
  const auto good = [](const nlohmann::json& depth) {
    return depth.is_number_integer() && depth.get<int64_t>() >= 1 &&
           depth.get<int64_t>() <= kMaxLayers;
  };
  if (good(entry)) return std::vector<int64_t>(layers, entry.get<int64_t>());
  if (!entry.is_array() || entry.size() != static_cast<size_t>(layers) ||
      !std::all_of(entry.begin(), entry.end(), good)) {
    return std::nullopt;
  }
  return entry.get<std::vector<int64_t>>();
}

/// `key` as one entry for each block, or nullopt where it is absent, null or refused.
std::optional<std::vector<nlohmann::json>> DepthEntries(JsonConfig& json, const std::string& key,
                                                        size_t blocks) {
  if (json.IsNull(key)) return std::nullopt;
  const nlohmann::json& value = *json.Find(key);
  if (!value.is_array()) return std::vector<nlohmann::json>(blocks, value);
  if (value.size() == blocks) return value.get<std::vector<nlohmann::json>>();
  json.Refuse(key, absl::StrCat("expected a number or one entry for each of ", blocks, " blocks"));
  return std::nullopt;
}

void ReadTransformerDepths(JsonConfig& json, UnetConfig& config) {
  const size_t blocks = config.levels.size();
  const std::string key = "transformer_layers_per_block",
                    reverse_key = "reverse_transformer_layers_per_block";
  const std::vector<nlohmann::json> down =
      DepthEntries(json, key, blocks).value_or(std::vector<nlohmann::json>(blocks, 1));
  std::vector<nlohmann::json> up(down.rbegin(), down.rend());
  const bool reverse_given = !json.IsNull(reverse_key);
  if (reverse_given) up = DepthEntries(json, reverse_key, blocks).value_or(up);

  for (size_t i = 0; i < blocks; ++i) {
    UnetLevelConfig& level = config.levels[i];
    const std::optional<std::vector<int64_t>> down_depths = Depths(down[i], level.layers);
    const std::optional<std::vector<int64_t>> up_depths =
        Depths(up[blocks - 1 - i], level.layers + 1);
    if (!down_depths)
      json.Refuse(
          key, absl::StrCat("expected whole numbers of 1 to ", kMaxLayers, ", one for each layer"));
    if (down_depths && !up_depths) {
      json.Refuse(reverse_given ? reverse_key : key,
                  "up blocks have one layer more than down blocks: give "
                  "reverse_transformer_layers_per_block with as many "
                  "numbers for each block");
    }
    level.down_transformer_layers = down_depths.value_or(std::vector<int64_t>(level.layers, 1));
    level.up_transformer_layers = up_depths.value_or(std::vector<int64_t>(level.layers + 1, 1));
  }
  config.mid_transformer_layers = config.levels.back().down_transformer_layers.front();
}

void ReadBlockTypes(JsonConfig& json, UnetConfig& config) {
  const std::vector<std::string> down = json.Strings(
      "down_block_types",
      {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"});
  const std::vector<std::string> up =
      json.Strings("up_block_types",
                   {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"});
  const size_t blocks = config.levels.size();
  if (down.size() != blocks)
    json.Refuse("down_block_types",
                absl::StrCat("expected ", blocks, ", as block_out_channels has"));
  if (up.size() != blocks)
    json.Refuse("up_block_types", absl::StrCat("expected ", blocks, ", as block_out_channels has"));
  for (size_t i = 0; i < std::min(blocks, down.size()); ++i) {
    config.levels[i].down_attention = down[i] == "CrossAttnDownBlock2D";
    if (!config.levels[i].down_attention && down[i] != "DownBlock2D") {
      json.Refuse("down_block_types", "supported: CrossAttnDownBlock2D, DownBlock2D");
    }
  }
  config.up_attention.assign(blocks, false);
  for (size_t i = 0; i < std::min(blocks, up.size()); ++i) {
    config.up_attention[i] = up[i] == "CrossAttnUpBlock2D";
    if (!config.up_attention[i] && up[i] != "UpBlock2D") {
      json.Refuse("up_block_types", "supported: CrossAttnUpBlock2D, UpBlock2D");
    }
  }
  config.mid_block = !(json.Find("mid_block_type") != nullptr && json.IsNull("mid_block_type"));
  if (config.mid_block) json.Neutral("mid_block_type", "UNetMidBlock2DCrossAttn");
}

void ReadLevels(JsonConfig& json, UnetConfig& config) {
  const std::vector<int64_t> channels = json.Ints("block_out_channels", {320, 640, 1280, 1280});
  const size_t blocks = channels.size();
  const std::vector<int64_t> layers = json.IntPerLevel("layers_per_block", 2, blocks);
  // The field that these files call attention_head_dim has always held the number of heads.
  const std::string heads_key =
      json.IsNull("num_attention_heads") ? "attention_head_dim" : "num_attention_heads";
  if (heads_key == "attention_head_dim") json.RefuseNull({"attention_head_dim"});
  const std::vector<int64_t> heads = json.IntPerLevel(heads_key, 8, blocks);
  json.Ignore({"attention_head_dim"});
  const std::vector<int64_t> cross_dims = json.IntPerLevel("cross_attention_dim", 1280, blocks);
  const std::vector<bool> only_cross = json.BoolPerLevel("only_cross_attention", false, blocks);

  for (size_t i = 0; i < blocks; ++i) {
    UnetLevelConfig level;
    level.channels = channels[i];
    level.layers = layers[i];
    level.num_heads = heads[i];
    level.cross_attention_dim = cross_dims[i];
    level.only_cross_attention = only_cross[i];
    if (level.layers > kMaxLayers) {
      json.Refuse("layers_per_block", absl::StrCat("at most ", kMaxLayers));
      level.layers = 1;
    }
    if (level.num_heads > level.channels)
      json.Refuse(heads_key, "more heads than block_out_channels has channels");
    if (level.channels % config.norm_num_groups != 0) {
      json.Refuse("block_out_channels",
                  absl::StrCat("must be multiples of norm_num_groups, ", config.norm_num_groups));
    }
    config.levels.push_back(std::move(level));
  }
}

/// Every part that attends to the text gets the same text, so all of them must be made for one
/// width.
void CheckCrossAttentionDims(JsonConfig& json, UnetConfig& config) {
  const size_t blocks = config.levels.size();
  config.cross_attention_dim = config.levels.back().cross_attention_dim;
  bool same = true, found = config.mid_block;
  for (size_t i = 0; i < blocks; ++i) {
    if (!config.levels[i].down_attention && !config.up_attention[blocks - 1 - i]) continue;
    if (!found) config.cross_attention_dim = config.levels[i].cross_attention_dim;
    found = true;
    same = same && config.levels[i].cross_attention_dim == config.cross_attention_dim;
  }
  if (!same)
    json.Refuse("cross_attention_dim", "supported: the same width for all blocks with attention");
}

void ReadSampleSize(JsonConfig& json, UnetConfig& config) {
  if (json.IsNull("sample_size")) return;
  const std::vector<int64_t> size = json.IntPerLevel("sample_size", 0, 2);
  config.sample_size = size[0];
  if (size[0] != size[1]) json.Refuse("sample_size", "supported: equal height and width");
}

/// Features beyond the SD 1.x / 2.x family: accepted only where they are switched off.
void ReadNeutralFields(JsonConfig& json) {
  for (const char* key :
       {"encoder_hid_dim", "encoder_hid_dim_type", "class_embed_type", "addition_embed_type",
        "addition_time_embed_dim", "num_class_embeds", "time_embedding_act_fn", "timestep_post_act",
        "time_cond_proj_dim", "projection_class_embeddings_input_dim", "cross_attention_norm"}) {
    json.Neutral(key);
  }
  for (const char* key :
       {"dual_cross_attention", "resnet_skip_time_act", "class_embeddings_concat"}) {
    json.Neutral(key, false);
  }
  json.Neutral("dropout", 0.0);
  json.Neutral("resnet_time_scale_shift", "default");
  json.Neutral("time_embedding_type", "positional");
  json.Neutral("attention_type", "default");
  json.Neutral("conv_in_kernel", 3);
  json.Neutral("conv_out_kernel", 3);
  // No part of the block types that are supported reads these.
  json.Ignore({"resnet_out_scale_factor", "mid_block_only_cross_attention",
               "addition_embed_type_num_heads"});
}

}  // namespace

absl::StatusOr<UnetConfig> UnetConfig::Load(const std::string& config_json,
                                            std::vector<std::string>* warnings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(
      JsonConfig json, JsonConfig::Open(config_json, "_class_name", {"UNet2DConditionModel"}));

  UnetConfig config;
  // diffusers builds another network of the first two, or none.
  json.RefuseNull({"norm_num_groups", "cross_attention_dim", "block_out_channels"});
  ReadSampleSize(json, config);
  config.in_channels = json.Int("in_channels", 4);
  config.out_channels = json.Int("out_channels", 4);
  config.center_input_sample = json.Bool("center_input_sample", false);
  config.flip_sin_to_cos = json.Bool("flip_sin_to_cos", true);
  config.freq_shift = json.Double("freq_shift", 0);
  const std::string act = json.String("act_fn", "silu");
  config.act = ParseActivation(act).value_or(Activation::kQuickGelu);
  if (config.act == Activation::kQuickGelu)
    json.Refuse("act_fn", "supported: silu, swish, gelu, mish, relu");
  config.norm_num_groups = json.Int("norm_num_groups", 32);
  config.norm_eps = json.Double("norm_eps", 1e-5);
  config.downsample_padding = json.Int("downsample_padding", 1, /*min=*/0);
  config.mid_block_scale_factor = json.Double("mid_block_scale_factor", 1);
  config.use_linear_projection = json.Bool("use_linear_projection", false);
  config.upcast_attention = json.Bool("upcast_attention", false);
  ReadLevels(json, config);
  ReadBlockTypes(json, config);
  ReadTransformerDepths(json, config);
  config.time_embedding_dim = config.levels.front().channels * 4;
  if (!json.IsNull("time_embedding_dim"))
    config.time_embedding_dim = json.Int("time_embedding_dim", 0);
  if (config.levels.front().channels % 2 != 0)
    json.Refuse("block_out_channels", "the first must be even");
  CheckCrossAttentionDims(json, config);
  ReadNeutralFields(json);

  IMAGEDDPO_RETURN_IF_ERROR(json.Finish(warnings));
  return config;
}

}  // namespace imageddpo
