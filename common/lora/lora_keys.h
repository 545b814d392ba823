#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/nn/model_options.h"

namespace imageddpo {

/// kMid: the middle one of three factors, which some programs make of larger convolutions.
enum class LoraPart { kDown, kUp, kMid, kAlpha };

/// What one key of a LoRA file says.
struct LoraKey {
  /// The module as the file names it, without prefixes that all keys of a file have; "_" and "."
  /// may stand for each other.
  std::string module;
  LoraPart part = LoraPart::kDown;
  /// Not empty: the key is no part of a LoRA of the UNet. It says what the key belongs to instead,
  /// for messages as "<n> keys are of <this>".
  std::string_view foreign;
  bool is_text_encoder = false;
};

/// Splits a key of a file into module and part, whichever program wrote it: diffusers
/// ("unet.<path>.lora.down.weight", "….lora_layer.down.weight", "….lora_linear_layer.down.weight",
/// "….processor.to_q_lora.down.weight"), PEFT ("base_model.model.<path>.lora_A.weight", also with
/// an adapter's name before ".weight"), kohya's scripts and those that follow them
/// ("lora_unet_<path with _ for .>.lora_down.weight").
LoraKey ParseLoraKey(std::string_view key);

/// Finds linear layers by the names that files have for them.
class LoraNames {
 public:
  explicit LoraNames(const std::vector<LinearInfo>& linears);

  /// The layer of LoraKey::module, in diffusers' names of blocks or in those of the original
  /// Stable Diffusion ("input_blocks.1.1", "middle_block.1", "output_blocks.3.1"); nullptr where
  /// there is none.
  const LinearInfo* Find(const std::string& module) const;

 private:
  std::map<std::string, LinearInfo> by_name_;  ///< With "_" for ".".
};

}  // namespace imageddpo
