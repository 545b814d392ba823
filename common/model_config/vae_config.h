#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/activation_kind.h"

namespace imageddpo {

/// A diffusers AutoencoderKL's config.json, checked.
struct VaeConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels;
  int64_t layers_per_block = 1;
  int64_t norm_num_groups = 32;
  Activation act = Activation::kSilu;
  int64_t sample_size = 0;  ///< Pixels; informative.
  double scaling_factor = 0.18215;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  /// Pixels per latent pixel, each way.
  int64_t downscale() const { return int64_t{1} << (block_out_channels.size() - 1); }

  /// @param warnings  gets remarks on values that were read as something else; may be null.
  /// @return INVALID_ARGUMENT naming the file, the field, its value and what is supported.
  static absl::StatusOr<VaeConfig> Load(const std::string& config_json,
                                        std::vector<std::string>* warnings = nullptr);
};

}  // namespace imageddpo
