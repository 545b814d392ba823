#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/activation_kind.h"

namespace imageddpo {

/// What one resolution of the UNet is made of. Lists run from the outermost (largest) resolution
/// inwards.
struct UnetLevelConfig {
  int64_t channels = 0;
  bool down_attention = false;  ///< CrossAttnDownBlock2D rather than DownBlock2D.
  int64_t layers = 2;  ///< Resnets of the down block; the up block of this level has one more.
  std::vector<int64_t> down_transformer_layers;  ///< Transformer blocks behind each resnet.
  std::vector<int64_t> up_transformer_layers;  ///< The same for the up block (layers + 1 entries).
  int64_t num_heads = 8;
  int64_t cross_attention_dim = 0;
  bool only_cross_attention = false;
};

/// A diffusers UNet2DConditionModel's config.json, checked and with every list filled in.
struct UnetConfig {
  int64_t sample_size = 0;  ///< Latent pixels each way, as trained; 0 where the file does not say.
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t cross_attention_dim = 0;  ///< The width of the text context.
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t time_embedding_dim = 0;
  Activation act = Activation::kSilu;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  int64_t downsample_padding = 1;
  double mid_block_scale_factor = 1;
  bool use_linear_projection = false;
  bool upcast_attention = false;
  std::vector<UnetLevelConfig> levels;
  std::vector<bool> up_attention;  ///< Of up_blocks.<i>: from the innermost level outwards.
  int64_t mid_transformer_layers = 1;
  bool mid_block = true;  ///< UNetMidBlock2DCrossAttn; false where mid_block_type is null.

  /// @param warnings  gets remarks on values that were read as something else; may be null.
  /// @return INVALID_ARGUMENT naming the file, the field, its value and what is supported.
  static absl::StatusOr<UnetConfig> Load(const std::string& config_json,
                                         std::vector<std::string>* warnings = nullptr);
};

}  // namespace imageddpo
