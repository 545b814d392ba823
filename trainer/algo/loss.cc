#include "trainer/algo/loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>

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

/// @param weight_B  undefined: every sample counts alike.
PpoLossResult ClippedLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                          const at::Tensor& advantages_B, const at::Tensor& weight_B,
                          const PpoOptions& options) {
  const at::Tensor clamped_B = advantages_B.clamp(-options.adv_clip_max, options.adv_clip_max);
  const at::Tensor difference_B = log_prob_B - old_log_prob_B;
  const at::Tensor ratio_B = difference_B.exp();
  const at::Tensor unclipped_B = -clamped_B * ratio_B;
  const at::Tensor clipped_B =
      -clamped_B * ratio_B.clamp(1.0 - options.clip_range, 1.0 + options.clip_range);
  at::Tensor loss_B = at::maximum(unclipped_B, clipped_B);
  if (weight_B.defined()) loss_B = weight_B * loss_B;

  PpoLossResult result;
  result.loss = loss_B.mean();
  result.ratio_B = ratio_B.detach();
  result.approx_kl = 0.5 * difference_B.detach().pow(2).mean();
  result.clipfrac = ((result.ratio_B - 1.0).abs() > options.clip_range).to(at::kFloat).mean();
  return result;
}

}  // namespace

PpoLossResult PpoLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                      const at::Tensor& advantages_B, const PpoOptions& options) {
  CheckLengths("PpoLoss", log_prob_B, old_log_prob_B, advantages_B);
  return ClippedLoss(log_prob_B, old_log_prob_B, advantages_B, at::Tensor(), options);
}

PpoLossResult DecoupledPpoLoss(const at::Tensor& log_prob_B, const at::Tensor& proximal_log_prob_B,
                               const at::Tensor& behaviour_log_prob_B,
                               const at::Tensor& advantages_B, const PpoOptions& options) {
  CheckLengths("DecoupledPpoLoss", log_prob_B, proximal_log_prob_B, advantages_B);
  CheckLengths("DecoupledPpoLoss", log_prob_B, behaviour_log_prob_B, advantages_B);
  const at::Tensor proximal_B = proximal_log_prob_B.detach();
  const at::Tensor behaviour_ratio_B = (proximal_B - behaviour_log_prob_B).exp();
  PpoLossResult result =
      ClippedLoss(log_prob_B, proximal_B, advantages_B,
                  behaviour_ratio_B.clamp_max(options.staleness_weight_cap), options);
  result.behaviour_ratio_B = behaviour_ratio_B;
  return result;
}

}  // namespace imageddpo
