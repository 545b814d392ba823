#include "trainer/algo/ppo_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>

#include <stdexcept>
#include <string>

namespace imageddpo {
namespace {

void CheckLengths(const char* function, const at::Tensor& log_prob_B, const at::Tensor& old_B,
                  const at::Tensor& advantages_B) {
  if (log_prob_B.dim() == 1 && log_prob_B.sizes() == old_B.sizes() &&
      log_prob_B.sizes() == advantages_B.sizes()) {
    return;
  }
  throw std::invalid_argument(std::string(function) +
                              ": log-probabilities and advantages must be of one length");
}

/// The statistics of both losses; the caller sets `loss`.
PpoLossResult Statistics(const at::Tensor& difference_B, const at::Tensor& ratio_B,
                         double clip_range) {
  PpoLossResult result;
  result.ratio_B = ratio_B.detach();
  result.approx_kl = 0.5 * difference_B.detach().pow(2).mean();
  result.clipfrac = ((result.ratio_B - 1.0).abs() > clip_range).to(at::kFloat).mean();
  return result;
}

}  // namespace

PpoLossResult PpoLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                      const at::Tensor& advantages_B, const PpoOptions& options) {
  CheckLengths("PpoLoss", log_prob_B, old_log_prob_B, advantages_B);
  const at::Tensor clamped_B = advantages_B.clamp(-options.adv_clip_max, options.adv_clip_max);
  const at::Tensor difference_B = log_prob_B - old_log_prob_B;
  const at::Tensor ratio_B = difference_B.exp();
  PpoLossResult result = Statistics(difference_B, ratio_B, options.clip_range);
  const at::Tensor bound_B = ratio_B.clamp(1.0 - options.clip_range, 1.0 + options.clip_range);
  result.loss = at::maximum(-clamped_B * ratio_B, -clamped_B * bound_B).mean();
  return result;
}

PpoLossResult DecoupledPpoLoss(const at::Tensor& log_prob_B, const at::Tensor& proximal_log_prob_B,
                               const at::Tensor& behaviour_log_prob_B,
                               const at::Tensor& advantages_B, int64_t age,
                               const PpoOptions& options) {
  CheckLengths("DecoupledPpoLoss", log_prob_B, proximal_log_prob_B, advantages_B);
  CheckLengths("DecoupledPpoLoss", log_prob_B, behaviour_log_prob_B, advantages_B);
  if (age < 0) throw std::invalid_argument("DecoupledPpoLoss: a sample's age is negative");
  const at::Tensor proximal_B = proximal_log_prob_B.detach();
  const at::Tensor behaviour_ratio_B = (proximal_B - behaviour_log_prob_B).exp();
  const at::Tensor clamped_B = advantages_B.clamp(-options.adv_clip_max, options.adv_clip_max);
  const at::Tensor difference_B = log_prob_B - proximal_B;
  const at::Tensor ratio_B = difference_B.exp();
  PpoLossResult result = Statistics(difference_B, ratio_B, options.clip_range);
  result.behaviour_ratio_B = behaviour_ratio_B;

  const double wide = static_cast<double>(1 + age) * options.clip_range;
  const at::Tensor high_B =
      (behaviour_ratio_B.reciprocal() * (1.0 + wide)).clamp_max(1.0 + options.clip_range);
  const at::Tensor low_B =
      (behaviour_ratio_B.reciprocal() * (1.0 - wide)).clamp_min(1.0 - options.clip_range);
  const at::Tensor bound_B =
      at::where(clamped_B > 0, ratio_B.clamp_max(high_B), ratio_B.clamp_min(low_B));
  const at::Tensor loss_B = at::maximum(-clamped_B * ratio_B, -clamped_B * bound_B);
  result.loss = (behaviour_ratio_B.clamp_max(options.staleness_weight_cap) * loss_B).mean();
  return result;
}

}  // namespace imageddpo
