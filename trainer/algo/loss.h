#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

struct PpoOptions {
  double clip_range = 1e-4;   ///< The ratio's gradient stops outside 1 ± clip_range.
  double adv_clip_max = 5.0;  ///< Advantages are clamped to ± this.
  /// DecoupledPpoLoss: largest importance weight of a stale sample. Lower is steadier, and further
  /// from the unbiased gradient.
  double staleness_weight_cap = 2.0;
};

struct PpoLossResult {
  at::Tensor loss;  ///< 0-d float32 with graph: mean over B of max(-A·ratio, -A·clamp(ratio, 1 ±
                    ///< clip_range)), each sample times its weight where there is one.
  at::Tensor approx_kl;  ///< 0-d float32, no graph: mean of (log_prob - old)²/2.
  at::Tensor clipfrac;   ///< 0-d float32, no graph: share of samples with |ratio - 1| > clip_range.
  at::Tensor ratio_B;    ///< float32, no graph: exp(log_prob - old).
  at::Tensor behaviour_ratio_B;  ///< float32, no graph, of DecoupledPpoLoss alone: not truncated.
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

/// The same for samples that an older policy drew: PPO with the two jobs of the old policy
/// decoupled (Hilton, Cobbe and Schulman, arXiv:2110.00641). The clip is around the proximal
/// policy, the one at the start of the epoch's training, and each sample is weighted with how much
/// likelier that one makes it than the behaviour policy that drew it, truncated as in V-trace
/// (Espeholt et al., arXiv:1802.01561). A second, wider clip around the behaviour policy ends a
/// sample's say where the epochs before have already gone far enough for it; without it nothing
/// holds back what many epochs do in a row on samples that cannot show its effect yet:
///
///   weight = min(b, staleness_weight_cap), b = exp(proximal - behaviour), without gradient
///   ratio  = exp(log_prob - proximal)
///   high   = min(1 + clip_range, (1 + (1 + age)·clip_range) / b)
///   low    = max(1 - clip_range, (1 - (1 + age)·clip_range) / b)
///   loss   = mean of weight · max(-A·ratio, -A·bound), bound = A > 0 ? min(ratio, high)
///                                                                   : max(ratio, low)
///
/// approx_kl, clipfrac and ratio_B are against the proximal policy. With equal proximal and
/// behaviour log-probabilities this is PpoLoss, bit for bit.
/// @param proximal_log_prob_B   float32, no graph.
/// @param behaviour_log_prob_B  float32 as recorded in the rollout.
/// @param age                   epochs of training between the two policies, at least 0.
/// @throws std::invalid_argument  shapes differ, or the age is negative.
PpoLossResult DecoupledPpoLoss(const at::Tensor& log_prob_B, const at::Tensor& proximal_log_prob_B,
                               const at::Tensor& behaviour_log_prob_B,
                               const at::Tensor& advantages_B, int64_t age,
                               const PpoOptions& options);

}  // namespace imageddpo
