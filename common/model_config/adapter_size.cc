#include "common/model_config/adapter_size.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/io/safetensors_header.h"
#include "common/model_config/adapter_config.h"

namespace imageddpo {
namespace {

bool IsOfTextEncoder(const std::string& key) {
  return absl::StrContains(key, "lora_te") || absl::StrContains(key, "text_encoder") ||
         absl::StrContains(key, "text_model");
}

/// A factor is a matrix, or a convolution's kernel of one pixel.
bool IsFactor(const std::vector<int64_t>& shape) {
  return shape.size() == 2 || (shape.size() == 4 && shape[2] == 1 && shape[3] == 1);
}

/// Whether the key is of the factor behind the input, whose first dimension is the rank: PEFT's
/// lora_A, kohya's lora_down, diffusers' lora.down and lora_linear_layer.down.
bool IsDown(const std::string& key) {
  return absl::StrContains(key, "lora_A") || absl::StrContains(key, "lora_down") ||
         absl::StrContains(key, ".down.");
}

}  // namespace

absl::StatusOr<AdapterSize> ReadAdapterSize(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string file, FindLoraFile(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(file));
  AdapterSize size{.targets = {.rank = 0, .modules = {}}};
  std::vector<bool> found(std::size(kAdapterKinds), false);
  for (const SafetensorsEntry& entry : header.tensors) {
    if (IsOfTextEncoder(entry.name) || !IsFactor(entry.shape)) continue;
    double values = 1;
    for (const int64_t length : entry.shape) values *= static_cast<double>(length);
    size.parameters += values;
    if (IsDown(entry.name)) size.targets.rank = std::max(size.targets.rank, entry.shape.front());
    // Programs write "to_out.0.lora_A", "to_out_0.lora_down" and "to_out_lora.down".
    const std::string name = absl::StrReplaceAll(entry.name, {{".", "_"}});
    for (size_t i = 0; i < std::size(kAdapterKinds); ++i) {
      const std::string kind = absl::StrReplaceAll(kAdapterKinds[i], {{".", "_"}});
      found[i] = found[i] || absl::StrContains(name, absl::StrCat(kind, "_lora")) ||
                 (kind == "to_out_0" && absl::StrContains(name, "to_out_lora"));
    }
  }
  if (size.targets.rank < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, " has no LoRA of the UNet's linear layers; give a LoRA of Stable Diffusion"));
  }
  for (size_t i = 0; i < std::size(kAdapterKinds); ++i) {
    if (found[i]) size.targets.modules.emplace_back(kAdapterKinds[i]);
  }
  return size;
}

}  // namespace imageddpo
