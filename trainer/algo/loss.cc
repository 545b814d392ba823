#include "trainer/algo/loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>

#include <stdexcept>

namespace imageddpo {

PpoLossResult PpoLoss(const at::Tensor& log_prob_B, const at::Tensor& old_log_prob_B,
                      const at::Tensor& advantages_B, const PpoOptions& options) {
  if (log_prob_B.dim() != 1 || log_prob_B.sizes() != old_log_prob_B.sizes() ||
      log_prob_B.sizes() != advantages_B.sizes()) {
    throw std::invalid_argument(
        "PpoLoss: log_prob, old_log_prob and advantages must be of one length");
  }
  const at::Tensor clamped_B = advantages_B.clamp(-options.adv_clip_max, options.adv_clip_max);
  const at::Tensor difference_B = log_prob_B - old_log_prob_B;
  const at::Tensor ratio_B = difference_B.exp();
  const at::Tensor unclipped_B = -clamped_B * ratio_B;
  const at::Tensor clipped_B =
      -clamped_B * ratio_B.clamp(1.0 - options.clip_range, 1.0 + options.clip_range);

  PpoLossResult result;
  result.loss = at::maximum(unclipped_B, clipped_B).mean();
  result.ratio_B = ratio_B.detach();
  result.approx_kl = 0.5 * difference_B.detach().pow(2).mean();
  result.clipfrac = ((result.ratio_B - 1.0).abs() > options.clip_range).to(at::kFloat).mean();
  return result;
}

}  // namespace imageddpo
