#pragma once

#include <optional>
#include <string_view>

namespace imageddpo {

/// Pointwise functions named by `act_fn` and `hidden_act` in config files.
enum class Activation { kSilu, kGelu, kMish, kRelu, kQuickGelu };

/// The names diffusers and transformers use ("silu", "swish", "gelu", …); nullopt for any other.
std::optional<Activation> ParseActivation(std::string_view name);

}  // namespace imageddpo
