#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/activation_kind.h"

namespace imageddpo {

/// A transformers CLIPTextConfig, checked.
struct TextEncoderConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 512;
  int64_t intermediate_size = 2048;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 8;
  int64_t max_position_embeddings = 77;
  Activation hidden_act = Activation::kQuickGelu;
  double layer_norm_eps = 1e-5;

  /// @param warnings  gets remarks on values that were read as something else; may be null.
  /// @return INVALID_ARGUMENT naming the file, the field, its value and what is supported.
  static absl::StatusOr<TextEncoderConfig> Load(const std::string& config_json,
                                                std::vector<std::string>* warnings = nullptr);
};

}  // namespace imageddpo
