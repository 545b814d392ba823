#include "common/lora/lora_keys.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace imageddpo {
namespace {

/// Prefixes that say only by whom, or around what, a network was wrapped. Taken off again and
/// again.
constexpr absl::string_view kPrefixes[] = {
    "unet.",   "base_model.model.", "model.diffusion_model.", "diffusion_model.", "_orig_mod.",
    "module.", "lora_unet_"};

constexpr absl::string_view kTextEncoderPrefixes[] = {
    "text_encoder", "lora_te", "te_", "te1_", "cond_stage_model.", "text_model."};

struct Ending {
  absl::string_view text;
  LoraPart part;
};

constexpr Ending kEndings[] = {
    {".lora.down.weight", LoraPart::kDown},
    {".lora.up.weight", LoraPart::kUp},
    {".lora_down.weight", LoraPart::kDown},
    {".lora_up.weight", LoraPart::kUp},
    {".lora_mid.weight", LoraPart::kMid},
    {".lora_A.weight", LoraPart::kDown},
    {".lora_B.weight", LoraPart::kUp},
    {".lora_layer.down.weight", LoraPart::kDown},
    {".lora_layer.up.weight", LoraPart::kUp},
    {".lora_linear_layer.down.weight", LoraPart::kDown},
    {".lora_linear_layer.up.weight", LoraPart::kUp},
    {".lora.alpha", LoraPart::kAlpha},
    {".alpha", LoraPart::kAlpha},
};

/// Other kinds of adapters, by what their keys have in them.
struct Kind {
  absl::string_view mark, name;
};

constexpr Kind kKinds[] = {
    {"dora_scale", "DoRA (a magnitude for each output)"},
    {"lora_magnitude_vector", "DoRA (a magnitude for each output)"},
    {"hada_", "LoHa"},
    {"lokr_", "LoKr"},
    {"oft_", "OFT"},
    {"boft_", "BOFT"},
    {"ia3_", "IA³"},
    {"lora_embedding_", "embeddings"},
    {"emb_params", "embeddings (textual inversion)"},
    {"bundle_emb", "embeddings (textual inversion)"},
    {".diff", "changes of whole weights (not low-rank)"},
    {".w_norm", "normalisation layers"},
    {".b_norm", "normalisation layers"},
    {".bias", "biases"},
};

/// "attn1.processor.to_q_lora.down.weight" to "attn1.to_q.lora.down.weight", as diffusers wrote
/// before 0.21.
std::string ModernSpelling(absl::string_view key) {
  const std::string plain = absl::StrReplaceAll(key, {{".processor.", "."}});
  return absl::StrReplaceAll(plain, {{".to_q_lora.", ".to_q.lora."},
                                     {".to_k_lora.", ".to_k.lora."},
                                     {".to_v_lora.", ".to_v.lora."},
                                     {".to_out_lora.", ".to_out.0.lora."}});
}

/// "….lora_A.default.weight" to "….lora_A.weight".
std::string WithoutAdapterName(const std::string& key) {
  for (const std::string matrix : {".lora_A.", ".lora_B."}) {
    const size_t at = key.rfind(matrix);
    if (at == std::string::npos) continue;
    const size_t name = at + matrix.size();
    const size_t dot = key.find('.', name);
    if (dot != std::string::npos && key.substr(dot) == ".weight")
      return key.substr(0, name) + key.substr(dot + 1);
  }
  return key;
}

std::string Flat(absl::string_view path) { return absl::StrReplaceAll(path, {{".", "_"}}); }

/// The same layer's path in the original Stable Diffusion, whose blocks are numbered through. A
/// down block is its resnets, each with its attention, and one more for the downsampler; an up
/// block is its resnets, the last one with the upsampler.
class OriginalNames {
 public:
  explicit OriginalNames(const std::vector<LinearInfo>& linears) {
    for (const LinearInfo& linear : linears) {
      const std::vector<std::string> parts = absl::StrSplit(linear.path, '.');
      int64_t block = 0, layer = 0;
      if (parts.size() < 5 || parts[2] != "resnets" || !absl::SimpleAtoi(parts[1], &block) ||
          !absl::SimpleAtoi(parts[3], &layer))
        continue;
      int64_t& layers = layers_[parts[0]][block];
      layers = std::max(layers, layer + 1);
    }
  }

  /// Empty where the original has no such layer.
  std::string Of(const std::string& path) const {
    constexpr absl::string_view kTime = "time_embedding.linear_";
    if (absl::StartsWith(path, kTime))
      return path.substr(kTime.size()) == "1" ? "time_embed.0" : "time_embed.2";
    std::vector<std::string> parts = absl::StrSplit(path, '.');
    const bool is_middle = parts[0] == "mid_block";
    if (is_middle) parts.insert(parts.begin() + 1, "0");
    int64_t block = 0, layer = 0;
    if (parts.size() < 5 || !absl::SimpleAtoi(parts[1], &block) ||
        !absl::SimpleAtoi(parts[3], &layer))
      return "";
    const bool is_resnet = parts[2] == "resnets";
    if (!is_resnet && parts[2] != "attentions") return "";
    std::string rest = absl::StrJoin(parts.begin() + 4, parts.end(), ".");
    if (is_resnet) {
      rest = absl::StrReplaceAll(
          rest, {{"time_emb_proj", "emb_layers.1"}, {"conv_shortcut", "skip_connection"}});
    }
    if (is_middle) {
      // Resnet, attention, resnet, attention, …
      return absl::StrCat("middle_block.", 2 * layer + (is_resnet ? 0 : 1), ".", rest);
    }
    const bool is_down = parts[0] == "down_blocks";
    int64_t number = layer + (is_down ? 1 : 0);  // The first input block is conv_in.
    for (int64_t before = 0; before < block; ++before) {
      number += Layers(parts[0], before) + (is_down ? 1 : 0);
    }
    return absl::StrCat(is_down ? "input_blocks." : "output_blocks.", number, ".",
                        is_resnet ? 0 : 1, ".", rest);
  }

 private:
  int64_t Layers(const std::string& blocks, int64_t block) const {
    const auto of = layers_.find(blocks);
    if (of == layers_.end()) return 0;
    const auto found = of->second.find(block);
    return found == of->second.end() ? 0 : found->second;
  }

  std::map<std::string, std::map<int64_t, int64_t>> layers_;  ///< Resnets of a block, by its name.
};

}  // namespace

LoraKey ParseLoraKey(std::string_view raw_key) {
  const absl::string_view whole(raw_key.data(), raw_key.size());
  absl::string_view rest = whole;
  LoraKey key;
  for (const absl::string_view prefix : kTextEncoderPrefixes) {
    if (!absl::StartsWith(rest, prefix)) continue;
    key.foreign = "the text encoder";
    key.is_text_encoder = true;
    return key;
  }
  for (bool taken = true; taken;) {
    taken = false;
    for (const absl::string_view prefix : kPrefixes)
      taken = absl::ConsumePrefix(&rest, prefix) || taken;
  }
  const std::string name = WithoutAdapterName(ModernSpelling(rest));
  for (const Ending& ending : kEndings) {
    if (!absl::EndsWith(name, ending.text)) continue;
    key.module = name.substr(0, name.size() - ending.text.size());
    key.part = ending.part;
    return key;
  }
  key.foreign = "no kind that is known";
  for (const Kind& kind : kKinds) {
    if (!absl::StrContains(whole, kind.mark)) continue;
    key.foreign = {kind.name.data(), kind.name.size()};
    break;
  }
  return key;
}

LoraNames::LoraNames(const std::vector<LinearInfo>& linears) {
  const OriginalNames original(linears);
  for (const LinearInfo& linear : linears) {
    if (const std::string name = original.Of(linear.path); !name.empty())
      by_name_.emplace(Flat(name), linear);
  }
  for (const LinearInfo& linear : linears) by_name_.insert_or_assign(Flat(linear.path), linear);
}

const LinearInfo* LoraNames::Find(const std::string& module) const {
  const auto found = by_name_.find(Flat(module));
  return found == by_name_.end() ? nullptr : &found->second;
}

}  // namespace imageddpo
