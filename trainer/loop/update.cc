#include "trainer/loop/update.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <stdexcept>
#include <utility>

namespace imageddpo {

ReplayUpdate::ReplayUpdate(const Policy& policy, std::vector<at::Tensor> parameters,
                           const PpoOptions& options)
    : policy_(policy), parameters_(std::move(parameters)), options_(options) {
  for (const at::Tensor& parameter : parameters_) {
    if (!parameter.is_leaf() || !parameter.requires_grad()) {
      throw std::invalid_argument(
          "ReplayUpdate: a parameter is not a leaf that requires gradients");
    }
  }
}

std::vector<StepStatistics> ReplayUpdate::Accumulate(const ReplayBatch& batch, double weight) {
  const at::Device device = parameters_.front().device();
  const int64_t num_steps = batch.timesteps_BK.size(1);
  const at::Tensor latents_BKCHW = batch.latents_BKCHW.to(device);
  const at::Tensor timesteps_BK = batch.timesteps_BK.to(device);
  const at::Tensor log_probs_BK = batch.log_probs_BK.to(device);
  const at::Tensor advantages_B = batch.advantages_B.to(device);
  std::vector<StepStatistics> statistics;
  for (int64_t k = 0; k < num_steps; ++k) {
    // contiguous(): the rollout's call had contiguous latents, and other strides may round
    // otherwise.
    const auto step = policy_.Replay(latents_BKCHW.select(1, k).contiguous(),
                                     timesteps_BK.select(1, k).contiguous(), batch.conditioning,
                                     latents_BKCHW.select(1, k + 1).contiguous());
    const PpoLossResult ppo =
        PpoLoss(step.log_prob_B, log_probs_BK.select(1, k), advantages_B, options_);
    if (ppo.loss.requires_grad()) (ppo.loss * weight).backward();
    statistics.push_back({ppo.loss.item<double>(), ppo.approx_kl.item<double>(),
                          ppo.clipfrac.item<double>(),
                          (ppo.ratio_B - 1).abs().max().item<double>()});
  }
  return statistics;
}

at::Tensor ReplayUpdate::TakeGradient() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  flat.reserve(parameters_.size());
  for (at::Tensor& parameter : parameters_) {
    at::Tensor& gradient = parameter.mutable_grad();
    flat.push_back(gradient.defined() ? gradient.reshape({-1})
                                      : at::zeros_like(parameter).reshape({-1}));
    gradient = at::Tensor();
  }
  return at::cat(flat);
}

std::vector<at::Tensor> SplitLike(const at::Tensor& flat_P,
                                  const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> views;
  views.reserve(parameters.size());
  int64_t offset = 0;
  for (const at::Tensor& parameter : parameters) {
    views.push_back(flat_P.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
  if (offset != flat_P.numel()) {
    throw std::invalid_argument("SplitLike: the flat tensor does not fit the parameters");
  }
  return views;
}

at::Tensor SumShards(const at::Tensor& shards_VP) {
  at::Tensor sum_P = shards_VP.select(0, 0).clone();
  for (int64_t v = 1; v < shards_VP.size(0); ++v) sum_P.add_(shards_VP.select(0, v));
  return sum_P;
}

double ClipAndStep(const at::Tensor& gradient_P, double max_grad_norm,
                   const std::vector<at::Tensor>& parameters, AdamW* optimizer) {
  const std::vector<at::Tensor> gradients = SplitLike(gradient_P, parameters);
  const double norm = ClipGradNorm(gradients, max_grad_norm);
  if (std::isfinite(norm)) optimizer->Step(gradients);
  return norm;
}

}  // namespace imageddpo
