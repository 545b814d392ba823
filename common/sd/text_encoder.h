#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config/text_encoder_config.h"
#include "common/nn/model_options.h"

namespace imageddpo {

/// CLIP's text transformer (transformers' CLIPTextModel), frozen. Forward() may run in several
/// threads at once.
///
/// Shape letters: B batch, L tokens, D hidden_size.
class TextEncoder {
 public:
  /// @param warnings  as of its config; may be null.
  /// @return NOT_FOUND or INVALID_ARGUMENT naming the file, field or key.
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Load(
      const std::string& dir, const ModelOptions& options,
      std::vector<std::string>* warnings = nullptr);
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
