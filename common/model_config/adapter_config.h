#pragma once

#include <cstdint>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// What PEFT's configuration of a LoRA says of the sizes and scales of its modules. It stands in an
/// adapter_config.json beside the weights (PEFT's save_pretrained), or in the weights' header,
/// under `lora_adapter_metadata` (diffusers' save_lora_weights and save_lora_adapter).
class AdapterConfig {
 public:
  AdapterConfig() = default;  ///< Says nothing.

  /// Reads a JSON object. Where its fields have prefixes, as in diffusers' files for several
  /// networks, those of `unet.` count.
  /// @param source  names the object in errors.
  /// @return INVALID_ARGUMENT naming, in one message, every field that says that the weights are
  ///         more than a low-rank product (DoRA, biases, another kind of adapter, changed base
  ///         weights), that is not known, or that is no number where it must be one.
  static absl::StatusOr<AdapterConfig> Parse(const std::string& json, const std::string& source);

  /// The rank of the module at `path`, as "mid_block.attentions.0.proj_in"; nullopt where the
  /// configuration does not say.
  std::optional<int64_t> RankOf(const std::string& path) const;
  /// The alpha for which alpha / rank is the module's scale: with use_rslora, where the scale is
  /// alpha / √rank, that is alpha · √rank.
  std::optional<double> AlphaOf(const std::string& path, int64_t rank) const;

 private:
  /// A regular expression that a path, or its end behind a dot, matches as a whole, and the number
  /// of the modules that do. The first one in the file's order counts
  /// (peft.utils.get_pattern_key).
  struct Pattern {
    std::string literal;  ///< A path, with dots that match anything, where it is no more than that.
    bool is_whole = false;            ///< The literal is the whole path, and not its end.
    std::optional<std::regex> regex;  ///< Where it is more.
    double number = 0;

    bool Matches(const std::string& path) const;
  };
  using Patterns = std::vector<Pattern>;

  class Reader;
  static std::optional<double> Find(const Patterns& patterns, const std::string& path);

  std::optional<double> rank_, alpha_;
  Patterns rank_patterns_, alpha_patterns_;
  bool rank_stabilised_ = false;
};

/// The safetensors file that a LoRA's path means: the file itself, or in a folder PEFT's
/// `adapter_model.safetensors` beside an adapter_config.json, diffusers'
/// `pytorch_lora_weights.safetensors`, or the only safetensors file there is.
/// @return NOT_FOUND or INVALID_ARGUMENT naming the folder and what it holds instead.
absl::StatusOr<std::string> FindLoraFile(const std::string& path);

}  // namespace imageddpo
