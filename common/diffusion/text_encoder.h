#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/diffusion/activation.h"
#include "common/diffusion/model_options.h"

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

  /// @return INVALID_ARGUMENT naming the file, the field, its value and what is supported.
  static absl::StatusOr<TextEncoderConfig> Load(const std::string& config_json);
};

/// CLIP's text transformer (transformers' CLIPTextModel), frozen. Forward() may run in several
/// threads at once.
///
/// Shape letters: B batch, L tokens, D hidden_size.
class TextEncoder {
 public:
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Load(const std::string& dir,
                                                           const ModelOptions& options);
  ~TextEncoder();

  const TextEncoderConfig& config() const;

  /// @param token_ids_BL  int64 [B, L], L <= max_position_embeddings.
  /// @return              float32 [B, L, D]: the last layer behind the final layer norm.
  /// @throws c10::Error   on ids or lengths out of range.
  at::Tensor Forward(const at::Tensor& token_ids_BL) const;

 private:
  struct Impl;
  explicit TextEncoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace imageddpo
