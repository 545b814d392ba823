#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/trajectory/record/trajectory.h"

namespace imageddpo {

/// One line on the prompts that have more tokens than the text encoder reads, if there are any.
std::vector<std::string> WarnOfCutPrompts(const ClipTokenizer& tokenizer,
                                          const std::set<std::string>& prompts);

/// Embeddings of prompts, cached so that each is encoded once. Each prompt is encoded by itself, so
/// its bits do not depend on other prompts of a batch. Thread-compatible.
class PromptCache {
 public:
  /// @param to_come       all prompts that Encode() will ever encode, the negative one aside.
  /// @param budget_bytes  size of the cache; the rest is encoded each time.
  PromptCache(const Pipeline& pipeline, std::string negative_prompt, std::set<std::string> to_come,
              at::Device device, size_t budget_bytes = size_t{1} << 30);

  struct Encoded {
    PromptKeys keys;
    Conditioning conditioning;
    std::map<uint64_t, at::Tensor> embeddings_LD;  ///< All that the keys name, on the CPU.
  };
  /// @param use_prompts  false at guidance scale <= 1: only the negative prompt is encoded.
  Encoded Encode(const std::vector<std::string>& prompts, bool use_prompts = true);

  /// Whether all prompts are cached, so that the text encoder is not needed any more.
  bool complete() const { return to_come_.empty(); }

 private:
  struct Entry {
    uint64_t hash = 0;
    at::Tensor embedding_LD;  ///< On the device; undefined where it is never used, as the next.
    at::Tensor on_host_LD;    ///< The same, for records.
  };
  Entry Lookup(const std::string& prompt, bool encode);

  const Pipeline& pipeline_;
  std::string negative_prompt_;
  std::set<std::string> to_come_;  ///< Still to be encoded and kept.
  at::Device device_;
  size_t budget_bytes_;
  size_t used_bytes_ = 0;
  std::map<std::string, Entry> entries_;
};

}  // namespace imageddpo
