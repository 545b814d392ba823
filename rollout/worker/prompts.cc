#include "rollout/worker/prompts.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"
#include "common/device/copies.h"

namespace imageddpo {

std::vector<std::string> WarnOfCutPrompts(const ClipTokenizer& tokenizer,
                                          const std::set<std::string>& prompts) {
  constexpr size_t kMaxShownBytes = 80;
  int64_t count = 0;
  std::string first;
  for (const std::string& prompt : prompts) {
    if (tokenizer.IsCut(prompt) && count++ == 0) first = prompt;
  }
  if (count == 0) return {};
  return {absl::StrCat(count, count == 1 ? " prompt has" : " prompts have", " more than the ",
                       tokenizer.max_length() - 2,
                       " tokens that the text encoder reads; what comes behind is cut off",
                       count == 1 ? ": \"" : "; the first: \"", Excerpt(first, kMaxShownBytes),
                       "\"")};
}

PromptCache::PromptCache(const Pipeline& pipeline, std::string negative_prompt,
                         std::set<std::string> to_come, at::Device device, size_t budget_bytes)
    : pipeline_(pipeline),
      negative_prompt_(std::move(negative_prompt)),
      to_come_(std::move(to_come)),
      device_(device),
      budget_bytes_(budget_bytes) {
  to_come_.insert(negative_prompt_);
}

PromptCache::Entry PromptCache::Lookup(const std::string& prompt, bool encode) {
  const auto found = entries_.find(prompt);
  if (found != entries_.end() && (!encode || found->second.embedding_LD.defined())) {
    return found->second;
  }
  const std::vector<int64_t> tokens = pipeline_.tokenizer->Encode(prompt);
  Entry entry{.hash = HashTokens(tokens)};
  if (encode) {
    const at::NoGradGuard no_grad;
    const at::Tensor tokens_BL = MoveTo(at::tensor(tokens, at::kLong).unsqueeze(0), device_);
    entry.embedding_LD = pipeline_.text_encoder->Forward(tokens_BL).squeeze(0).contiguous();
    entry.on_host_LD = MoveTo(entry.embedding_LD, at::kCPU);
  }
  const size_t size_bytes = prompt.size() + (encode ? entry.embedding_LD.nbytes() : 0);
  if (size_bytes <= budget_bytes_ - used_bytes_) {
    entries_[prompt] = entry;
    used_bytes_ += size_bytes;
    if (encode) to_come_.erase(prompt);
  }
  return entry;
}

PromptCache::Encoded PromptCache::Encode(const std::vector<std::string>& prompts,
                                         bool use_prompts) {
  const Entry negative = Lookup(negative_prompt_, true);
  Encoded encoded;
  encoded.keys.negative_hash = negative.hash;
  encoded.embeddings_LD[negative.hash] = negative.on_host_LD;
  std::vector<at::Tensor> prompt_embeds;
  for (const auto& prompt : prompts) {
    const Entry entry = Lookup(prompt, use_prompts);
    encoded.keys.prompt_hashes.push_back(entry.hash);
    encoded.keys.same_tokens.push_back(entry.hash == negative.hash);
    if (!use_prompts) continue;
    prompt_embeds.push_back(entry.embedding_LD);
    encoded.embeddings_LD.try_emplace(entry.hash, entry.on_host_LD);
  }
  const auto batch = static_cast<int64_t>(prompts.size());
  encoded.conditioning.negative_embeds_BLD =
      negative.embedding_LD.unsqueeze(0).expand({batch, -1, -1}).contiguous();
  if (use_prompts) encoded.conditioning.prompt_embeds_BLD = at::stack(prompt_embeds);
  encoded.conditioning.same_tokens_B = encoded.keys.same_tokens;
  return encoded;
}

}  // namespace imageddpo
