#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

struct PpoOptions {
  /// Clip of the probability ratio: a sample whose ratio has left 1 ± clip_range in the direction
  /// of its advantage has no gradient.
  double clip_range = 1e-4;
  double adv_clip_max = 5.0;  ///< Advantages are clamped to ± adv_clip_max.
  /// DecoupledPpoLoss: upper bound of a sample's importance weight. A smaller value means less
  /// variance and more bias.
  double staleness_weight_cap = 2.0;
};

struct PpoLossResult {
  at::Tensor loss;       ///< 0-d float32 with graph: mean over the B samples.
  at::Tensor approx_kl;  ///< 0-d float32, no graph: mean of (log_prob - old)²/2.
  at::Tensor clipfrac;   ///< 0-d float32, no graph: share of samples with |ratio - 1| > clip_range.
  at::Tensor ratio_B;    ///< float32, no graph: exp(log_prob - old).
  /// DecoupledPpoLoss only, float32, no graph: exp(proximal - behaviour), before truncation.
  at::Tensor behaviour_ratio_B;
};

/// PPO's clipped objective (Schulman et al., arXiv:1707.06347) for one timestep of one micro-batch
/// of B samples:
///
///   ratio = exp(log_prob - old)
///   loss  = mean over B of max(-A·ratio, -A·clamp(ratio, 1 ± clip_range))
///
/// The loss of an update is the mean over its N samples × K steps: multiply the result by B/(N·K)
/// before the backward pass.
/// @param log_prob_B      float32, under the current policy, with graph.
/// @param old_log_prob_B  float32, as recorded in the rollout.
/// @param advantages_B    float32, not yet clamped.
/// @throws std::invalid_argument  shapes differ.
PpoLossResult PpoLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                      const at::Tensor& advantages_B, const PpoOptions& options);

/// PPO's clipped objective for samples that were drawn by an older policy. Three policies take
/// part:
///
///   behaviour  the policy that drew the samples
///   proximal   the policy at the start of the epoch's training
///   current    the policy that is being trained
///
/// As in decoupled PPO (Hilton, Cobbe and Schulman, arXiv:2110.00641) the ratio is taken, and
/// clipped, against the proximal policy, and each sample has the importance weight
/// proximal/behaviour, truncated as in V-trace (Espeholt et al., arXiv:1802.01561). A second, wider
/// clip limits the ratio current/behaviour to 1 ± (1 + age)·clip_range. It is needed because
/// samples that are `age` epochs old do not show yet what the epochs in between have changed, so
/// without it several epochs in a row could push the policy in the same direction without limit:
///
///   b      = exp(proximal - behaviour), without gradient
///   weight = min(b, staleness_weight_cap)
///   ratio  = exp(log_prob - proximal)
///   high   = min(1 + clip_range, (1 + (1 + age)·clip_range) / b)
///   low    = max(1 - clip_range, (1 - (1 + age)·clip_range) / b)
///   bound  = A > 0 ? min(ratio, high) : max(ratio, low)
///   loss   = mean over B of weight · max(-A·ratio, -A·bound)
///
/// approx_kl, clipfrac and ratio_B compare with the proximal policy. Where proximal and behaviour
/// log-probabilities are equal, the result has the same bits as PpoLoss.
/// @param log_prob_B            float32, under the current policy, with graph.
/// @param proximal_log_prob_B   float32, no graph.
/// @param behaviour_log_prob_B  float32, as recorded in the rollout.
/// @param advantages_B          float32, not yet clamped.
/// @param age                   epochs of training between behaviour and proximal policy, >= 0.
/// @throws std::invalid_argument  shapes differ, or the age is negative.
PpoLossResult DecoupledPpoLoss(const at::Tensor& log_prob_B, const at::Tensor& proximal_log_prob_B,
                               const at::Tensor& behaviour_log_prob_B,
                               const at::Tensor& advantages_B, int64_t age,
                               const PpoOptions& options);

}  // namespace imageddpo
