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
  TrustRegion trust_region = TrustRegion::kRatio;  ///< kKl: a divergence mask in place of the clip.
  double kl_limit = 0.1;                           ///< Of kKl: of a step, in nats.
  double kl_coef = 0;  ///< Factor of the divergence from the base model in the loss.
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
/// With TrustRegion::kKl no ratio is clipped. A divergence mask decides instead, as in Flow-DPPO
/// (arXiv:2606.11025; for tokens Qi et al., arXiv:2602.04879): a sample has no gradient where the
/// update would move the policy further away from the one that drew it, and the exact divergence D
/// of the two, kl_to_recorded_B, is above the limit:
///
///   blocked = D > (1 + age)²·kl_limit  and  (A > 0 and r > 1  or  A < 0 and r < 1)
///   loss    = mean over B of weight · (blocked ? 0 : -A·ratio)
///
/// with r = current/recorded, and for fresh samples weight 1 and ratio r. An update that leads back
/// is never blocked. D grows with the square of the policies' distance, hence the square: `age`
/// epochs may have moved the policy as far as so many ranges of the clip above allow.
///
/// With kl_coef above 0 the mean over B of kl_coef · kl_to_base_B is added to either loss (0 for
/// samples that are left out), as in DPOK (Fan et al., arXiv:2305.16381).
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
  LossResult MaskedLoss(const LossInputs& inputs) const;  ///< Of fresh and of stale samples.
  at::Tensor BaseTerm(const LossInputs& inputs) const;    ///< 0-d, with graph.
  /// Everything in a result except the loss.
  LossResult Statistics(const at::Tensor& difference_B, const at::Tensor& ratio_B) const;
  at::Tensor Clamped(const at::Tensor& advantages_B) const;

  PpoOptions options_;
};

}  // namespace imageddpo
