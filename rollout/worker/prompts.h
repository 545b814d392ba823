#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/trajectory/trajectory.h"

namespace imageddpo {

/// Embeddings of prompts, each encoded once and by itself, so that its bits do not depend on what
/// it was batched with. Thread-compatible.
class PromptCache {
 public:
  /// @param use_prompts  false at guidance scale <= 1: only the negative prompt is ever encoded.
  PromptCache(const Pipeline& pipeline, std::string negative_prompt, bool use_prompts,
              at::Device device);

  struct Encoded {
    PromptKeys keys;
    Conditioning conditioning;
    std::map<uint64_t, at::Tensor> embeddings_LD;  ///< All that the keys name, on the CPU.
  };
  Encoded Encode(const std::vector<std::string>& prompts);

 private:
  struct Entry {
    uint64_t hash = 0;
    at::Tensor embedding_LD;  ///< On the device; undefined where it is never used.
  };
  const Entry& Lookup(const std::string& prompt, bool encode);

  const Pipeline& pipeline_;
  std::string negative_prompt_;
  bool use_prompts_;
  at::Device device_;
  std::map<std::string, Entry> entries_;
};

}  // namespace imageddpo
