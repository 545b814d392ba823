#include "trainer/algo/ppo_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace imageddpo {
namespace {

void Check(const LossInputs& inputs, const PpoOptions& options) {
  const auto fits = [&inputs](const at::Tensor& other_B) {
    return inputs.log_prob_B.sizes() == other_B.sizes();
  };
  if (inputs.log_prob_B.dim() != 1 || !fits(inputs.recorded_log_prob_B) ||
      !fits(inputs.advantages_B) || (inputs.is_stale() && !fits(inputs.proximal_log_prob_B))) {
    throw std::invalid_argument("PpoLoss: log-probabilities and advantages must be of one length");
  }
  const auto needs = [&fits](const at::Tensor& kl_B, const char* policy) {
    if (kl_B.defined() && fits(kl_B)) return;
    throw std::invalid_argument(
        std::string("PpoLoss: each step's divergence is needed from the policy ") + policy);
  };
  if (options.trust_region == TrustRegion::kKl) {
    needs(inputs.kl_to_recorded_B, "that drew the samples");
  }
  if (options.kl_coef > 0) needs(inputs.kl_to_base_B, "without the LoRA");
  if (inputs.is_kept_B.defined() && !fits(inputs.is_kept_B)) {
    throw std::invalid_argument("PpoLoss: is_kept_B is not of the samples' length");
  }
  if (inputs.age < 0) throw std::invalid_argument("PpoLoss: a sample's age is negative");
}

}  // namespace

LossResult PpoLoss::Loss(const LossInputs& inputs) const {
  Check(inputs, options_);
  LossResult result = options_.trust_region == TrustRegion::kKl ? MaskedLoss(inputs)
                      : inputs.is_stale()                       ? StaleLoss(inputs)
                                                                : FreshLoss(inputs);
  if (options_.kl_coef > 0) result.loss = result.loss + BaseTerm(inputs);
  return result;
}

at::Tensor PpoLoss::Clamped(const at::Tensor& advantages_B) const {
  return advantages_B.clamp(-options_.adv_clip_max, options_.adv_clip_max);
}

LossResult PpoLoss::Statistics(const at::Tensor& difference_B, const at::Tensor& ratio_B) const {
  LossResult result;
  result.ratio_B = ratio_B.detach();
  result.approx_kl = 0.5 * difference_B.detach().pow(2).mean();
  const at::Tensor distance_B = result.ratio_B - 1.0;
  const at::Tensor above_B = distance_B > options_.clip_range.high,
                   below_B = distance_B < -options_.clip_range.low;
  result.clipfrac = above_B.logical_or(below_B).to(at::kFloat).mean();
  result.clipped_high = above_B.to(at::kFloat).mean();
  result.clipped_low = below_B.to(at::kFloat).mean();
  return result;
}

LossResult PpoLoss::FreshLoss(const LossInputs& inputs) const {
  const at::Tensor clamped_B = Clamped(inputs.advantages_B);
  const at::Tensor difference_B = inputs.log_prob_B - inputs.recorded_log_prob_B;
  const at::Tensor ratio_B = difference_B.exp();
  LossResult result = Statistics(difference_B, ratio_B);
  const at::Tensor bound_B =
      ratio_B.clamp(1.0 - options_.clip_range.low, 1.0 + options_.clip_range.high);
  result.loss = at::maximum(-clamped_B * ratio_B, -clamped_B * bound_B).mean();
  return result;
}

LossResult PpoLoss::StaleLoss(const LossInputs& inputs) const {
  const at::Tensor proximal_B = inputs.proximal_log_prob_B.detach();
  const at::Tensor behaviour_ratio_B = (proximal_B - inputs.recorded_log_prob_B).exp();
  const at::Tensor clamped_B = Clamped(inputs.advantages_B);
  const at::Tensor difference_B = inputs.log_prob_B - proximal_B;
  const at::Tensor ratio_B = difference_B.exp();
  LossResult result = Statistics(difference_B, ratio_B);
  result.behaviour_ratio_B = behaviour_ratio_B;

  const auto times = static_cast<double>(1 + inputs.age);
  const at::Tensor high_B =
      (behaviour_ratio_B.reciprocal() * (1.0 + times * options_.clip_range.high))
          .clamp_max(1.0 + options_.clip_range.high);
  const at::Tensor low_B =
      (behaviour_ratio_B.reciprocal() * (1.0 - times * options_.clip_range.low))
          .clamp_min(1.0 - options_.clip_range.low);
  const at::Tensor bound_B =
      at::where(clamped_B > 0, ratio_B.clamp_max(high_B), ratio_B.clamp_min(low_B));
  const at::Tensor loss_B = at::maximum(-clamped_B * ratio_B, -clamped_B * bound_B);
  result.loss = (behaviour_ratio_B.clamp_max(options_.staleness_weight_cap) * loss_B).mean();
  return result;
}

LossResult PpoLoss::MaskedLoss(const LossInputs& inputs) const {
  const at::Tensor clamped_B = Clamped(inputs.advantages_B);
  const at::Tensor proximal_B =
      inputs.is_stale() ? inputs.proximal_log_prob_B.detach() : inputs.recorded_log_prob_B;
  const at::Tensor difference_B = inputs.log_prob_B - proximal_B;
  const at::Tensor ratio_B = difference_B.exp();
  LossResult result = Statistics(difference_B, ratio_B);
  at::Tensor to_recorded_B = result.ratio_B;
  if (inputs.is_stale()) {
    result.behaviour_ratio_B = (proximal_B - inputs.recorded_log_prob_B).exp();
    to_recorded_B = to_recorded_B * result.behaviour_ratio_B;
  }
  const at::Tensor moves_away_B = (clamped_B > 0)
                                      .logical_and(to_recorded_B > 1.0)
                                      .logical_or((clamped_B < 0).logical_and(to_recorded_B < 1.0));
  const auto times = static_cast<double>(1 + inputs.age);
  const at::Tensor is_blocked_B =
      moves_away_B.logical_and(inputs.kl_to_recorded_B > times * times * options_.kl_limit);
  result.masked = is_blocked_B.to(at::kFloat).mean();
  at::Tensor loss_B = (-clamped_B * ratio_B).masked_fill(is_blocked_B, 0.0);
  if (inputs.is_stale()) {
    loss_B = result.behaviour_ratio_B.clamp_max(options_.staleness_weight_cap) * loss_B;
  }
  result.loss = loss_B.mean();
  return result;
}

at::Tensor PpoLoss::BaseTerm(const LossInputs& inputs) const {
  at::Tensor kl_B = inputs.kl_to_base_B;
  if (inputs.is_kept_B.defined()) kl_B = kl_B.masked_fill(inputs.is_kept_B.logical_not(), 0.0);
  return options_.kl_coef * kl_B.mean();
}

OnPolicyLoss PpoLoss::LossAtSampling(const at::Tensor& advantages_B) const {
  OnPolicyLoss result;
  result.loss = -Clamped(advantages_B).mean().item<double>();
  const at::Tensor values_B = advantages_B.cpu().contiguous();
  for (int64_t i = 0; i < values_B.numel(); ++i) {
    result.derivative_B.push_back(
        -std::clamp(static_cast<double>(values_B.const_data_ptr<float>()[i]),
                    -options_.adv_clip_max, options_.adv_clip_max));
  }
  return result;
}

}  // namespace imageddpo
