#pragma once

#include <ATen/core/Tensor.h>

namespace imageddpo {

struct PpoOptions {
  double clip_range = 1e-4;   ///< The ratio's gradient stops outside 1 ± clip_range.
  double adv_clip_max = 5.0;  ///< Advantages are clamped to ± this.
};

struct PpoLossResult {
  at::Tensor loss;  ///< 0-d float32 with graph: mean over B of max(-A·ratio, -A·clamp(ratio, 1 ±
                    ///< clip_range)).
  at::Tensor approx_kl;  ///< 0-d float32, no graph: mean of (log_prob - old)²/2.
  at::Tensor clipfrac;   ///< 0-d float32, no graph: share of samples with |ratio - 1| > clip_range.
  at::Tensor ratio_B;    ///< float32, no graph: exp(log_prob - old).
};

/// PPO's clipped objective (Schulman et al., arXiv:1707.06347) over one timestep of one
/// micro-batch. The loss of an update is the mean of this over its N samples × K steps: scale by
/// B/(N·K) before backward.
/// @param log_prob_B      float32 under the current policy, with graph.
/// @param old_log_prob_B  float32 as recorded in the rollout.
/// @param advantages_B    float32, not yet clamped.
/// @throws std::invalid_argument  shapes differ.
PpoLossResult PpoLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                      const at::Tensor& advantages_B, const PpoOptions& options);

}  // namespace imageddpo
