#include "common/model_config/activation_kind.h"

#include <string>

#include "absl/strings/ascii.h"

namespace imageddpo {

std::optional<Activation> ParseActivation(std::string_view name) {
  const std::string lower = absl::AsciiStrToLower(std::string(name));
  if (lower == "silu" || lower == "swish") return Activation::kSilu;
  if (lower == "gelu") return Activation::kGelu;
  if (lower == "mish") return Activation::kMish;
  if (lower == "relu") return Activation::kRelu;
  if (lower == "quick_gelu") return Activation::kQuickGelu;
  return std::nullopt;
}

}  // namespace imageddpo
