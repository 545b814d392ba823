#pragma once

#include <vector>

#include "tests/gpu_check/check_row.h"

namespace imageddpo {

/// Whole rollouts and updates through imageddpo-trace's code, for every stored pipeline case:
/// - a rollout against the original's: latents, log-probabilities, images;
/// - in float32, an update of the original's trajectory: gradients, LoRA afterwards. (In bf16 the
///   ratios of a trajectory sampled in float32 lie outside the clip, and gradients stop there.)
/// - a replay of our own rollout on this device: how far the ratio is from 1, and the gradient of a
///   single pass against the replay's.
std::vector<CheckRow> CheckPipelines(const CheckOptions& options);

}  // namespace imageddpo
