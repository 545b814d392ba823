#pragma once

#include "trainer/algo/loss_rule.h"

namespace imageddpo {

struct PpoOptions {
  /// Clip of the probability ratio: a sample whose ratio has left it in the direction of its
  /// advantage has no gradient.
  ClipRange clip_range;
  double adv_clip_max = 5.0;  ///< Advantages are clamped to ± adv_clip_max.
  /// Of stale samples: upper bound of a sample's importance weight. A smaller value means less
  /// variance and more bias.
  double staleness_weight_cap = 2.0;
};

/// PPO's clipped objective (Schulman et al., arXiv:1707.06347). For fresh samples, with the clamped
/// advantage A:
///
///   ratio = exp(log_prob - recorded)
///   loss  = mean over B of max(-A·ratio, -A·clamp(ratio, 1 - low, 1 + high))
///
/// with low = high = clip_range, or two sides as in DAPO (Yu et al., arXiv:2503.14476): a larger
/// high lets unlikely samples with a good advantage become likely. Below, clip_range is high where
/// it is added and low where it is subtracted.
///
/// For stale samples, which an older policy drew, as in decoupled PPO (Hilton, Cobbe and Schulman,
/// arXiv:2110.00641): the ratio is taken, and clipped, against the proximal policy, and each sample
/// has the importance weight proximal/recorded, truncated as in V-trace (Espeholt et al.,
/// arXiv:1802.01561). A second, wider clip limits the ratio current/recorded to
/// 1 ± (1 + age)·clip_range. It is needed because samples that are `age` epochs old do not show yet
/// what the epochs in between have changed, so without it several epochs in a row could push the
/// policy in the same direction without limit:
///
///   b      = exp(proximal - recorded), without gradient
///   weight = min(b, staleness_weight_cap)
///   ratio  = exp(log_prob - proximal)
///   high   = min(1 + clip_range, (1 + (1 + age)·clip_range) / b)
///   low    = max(1 - clip_range, (1 - (1 + age)·clip_range) / b)
///   bound  = A > 0 ? min(ratio, high) : max(ratio, low)
///   loss   = mean over B of weight · max(-A·ratio, -A·bound)
///
/// Where proximal and recorded log-probabilities are equal, the fresh and the stale loss have the
/// same bits. Has no state.
class PpoLoss final : public LossRule {
 public:
  explicit PpoLoss(const PpoOptions& options = {}) : options_(options) {}

  LossResult Loss(const LossInputs& inputs) const override;
  OnPolicyLoss LossAtSampling(const at::Tensor& advantages_B) const override;

 private:
  LossResult FreshLoss(const LossInputs& inputs) const;
  LossResult StaleLoss(const LossInputs& inputs) const;
  /// Everything in a result except the loss.
  LossResult Statistics(const at::Tensor& difference_B, const at::Tensor& ratio_B) const;
  at::Tensor Clamped(const at::Tensor& advantages_B) const;

  PpoOptions options_;
};

}  // namespace imageddpo
