#include "trainer/loop/replay_update.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <stdexcept>
#include <utility>

#include "common/device/copies.h"
#include "common/diffusion/gaussian_kl.h"

namespace imageddpo {

namespace {

/// What StepStatistics says of one step, as 0-d float64 tensors in the order of its fields.
void AddNumbers(const LossInputs& inputs, const LossResult& result,
                std::vector<at::Tensor>* numbers) {
  const at::Tensor zero = at::zeros({}, result.loss.options().dtype(at::kDouble));
  const auto add = [&](const at::Tensor& number) {
    numbers->push_back(number.defined() ? number.detach().to(at::kDouble) : zero);
  };
  const auto add_deviation = [&](const at::Tensor& ratio_B) {
    const at::Tensor d_B = ratio_B.defined() ? ratio_B.to(at::kDouble) - 1 : ratio_B;
    add(d_B.defined() ? d_B.mean() : d_B);
    add(d_B.defined() ? d_B.pow(2).mean() : d_B);
  };
  add(result.loss);
  add(result.approx_kl);
  add(result.clipfrac);
  add((result.ratio_B - 1).abs().max());
  add(result.clipped_high);
  add(result.clipped_low);
  add_deviation(inputs.is_stale() ? result.behaviour_ratio_B : at::Tensor());
  add_deviation(result.ratio_B);
  const at::Tensor& to_recorded_B = inputs.kl_to_recorded_B;
  add(to_recorded_B.defined() ? to_recorded_B.mean() : to_recorded_B);
  add(to_recorded_B.defined() ? to_recorded_B.max() : to_recorded_B);
  add(result.masked);
  const at::Tensor& to_base_B = inputs.kl_to_base_B;
  add(to_base_B.defined() ? to_base_B.detach().mean() : to_base_B);
}

}  // namespace

std::vector<StepStatistics> StatisticsOf(const at::Tensor& numbers_KN) {
  const at::Tensor on_host_KN = MoveTo(numbers_KN, at::kCPU).contiguous();
  const auto* row = on_host_KN.const_data_ptr<double>();
  std::vector<StepStatistics> statistics;
  for (int64_t k = 0; k < on_host_KN.size(0); ++k, row += kNumbersPerStep) {
    statistics.push_back({.loss = row[0],
                          .approx_kl = row[1],
                          .clipfrac = row[2],
                          .ratio_max_error = row[3],
                          .clipped_high = row[4],
                          .clipped_low = row[5],
                          .behaviour_mean = row[6],
                          .behaviour_square = row[7],
                          .proximal_mean = row[8],
                          .proximal_square = row[9],
                          .kl_mean = row[10],
                          .kl_max = row[11],
                          .masked = row[12],
                          .kl_to_base = row[13]});
  }
  return statistics;
}

ReplayUpdate::ReplayUpdate(const Policy& policy, std::vector<at::Tensor> parameters,
                           const LossRule& loss)
    : policy_(policy), parameters_(std::move(parameters)), loss_(loss) {
  for (const at::Tensor& parameter : parameters_) {
    if (!parameter.is_leaf() || !parameter.requires_grad()) {
      throw std::invalid_argument(
          "ReplayUpdate: a parameter is not a leaf that requires gradients");
    }
  }
}

ReplayBatch ReplayUpdate::ToDevice(const ReplayBatch& batch) const {
  const at::Device device = parameters_.front().device();
  ReplayBatch moved = batch;
  for (at::Tensor* tensor : {&moved.latents_BKCHW, &moved.log_probs_BK, &moved.advantages_B,
                             &moved.proximal_log_probs_BK, &moved.means_BKCHW,
                             &moved.base_means_BKCHW, &moved.is_kept_B}) {
    if (tensor->defined()) *tensor = MoveTo(*tensor, device);
  }
  return moved;
}

StepResult ReplayUpdate::Step(const ReplayBatch& on_device, const StepConditioning& conditioning,
                              int64_t k) const {
  // contiguous(): the rollout's call had contiguous latents, and other strides may round otherwise.
  const auto& indices = on_device.latent_of_step;
  const int64_t before = indices.empty() ? k : indices[static_cast<size_t>(k)];
  return policy_.Replay(on_device.latents_BKCHW.select(1, before).contiguous(),
                        on_device.timesteps_BK.select(1, k).contiguous(), conditioning,
                        on_device.latents_BKCHW.select(1, before + 1).contiguous());
}

at::Tensor ReplayUpdate::LogProbs(const ReplayBatch& batch) const {
  const at::NoGradGuard no_grad;
  const ReplayBatch on_device = ToDevice(batch);
  const StepConditioning conditioning = policy_.Prepare(on_device.conditioning);
  std::vector<at::Tensor> log_probs;
  for (int64_t k = 0; k < batch.timesteps_BK.size(1); ++k) {
    log_probs.push_back(Step(on_device, conditioning, k).log_prob_B);
  }
  return at::stack(log_probs, 1);
}

at::Tensor ReplayUpdate::Accumulate(const ReplayBatch& batch, double weight) {
  const ReplayBatch on_device = ToDevice(batch);
  StepConditioning conditioning = policy_.Prepare(on_device.conditioning);
  std::vector<at::Tensor> numbers;
  const int64_t num_steps = batch.timesteps_BK.size(1);
  for (int64_t k = 0; k < num_steps; ++k) {
    const StepResult replayed = Step(on_device, conditioning, k);
    LossInputs inputs{.log_prob_B = replayed.log_prob_B,
                      .recorded_log_prob_B = on_device.log_probs_BK.select(1, k),
                      .is_kept_B = on_device.is_kept_B,
                      .advantages_B = on_device.advantages_B,
                      .age = batch.age};
    if (on_device.means_BKCHW.defined()) {
      inputs.kl_to_recorded_B = GaussianKl(replayed.mean_BCHW.detach(),
                                           on_device.means_BKCHW.select(1, k), replayed.sigma_B);
    }
    if (on_device.base_means_BKCHW.defined()) {
      inputs.kl_to_base_B =
          GaussianKl(replayed.mean_BCHW, on_device.base_means_BKCHW.select(1, k), replayed.sigma_B);
    }
    if (batch.proximal == ReplayBatch::Proximal::kGiven) {
      inputs.proximal_log_prob_B = on_device.proximal_log_probs_BK.select(1, k);
    } else if (batch.proximal == ReplayBatch::Proximal::kCurrent) {
      inputs.proximal_log_prob_B = inputs.log_prob_B.detach();
    }
    const LossResult result = loss_.Loss(inputs);
    if (result.loss.requires_grad()) (result.loss * (weight * loss_scale_)).backward();
    AddNumbers(inputs, result, &numbers);
  }
  conditioning.text.Backward();
  return at::stack(numbers).view({num_steps, kNumbersPerStep});
}

at::Tensor ReplayUpdate::AccumulateDenoising(const ReplayBatch& batch, double weight) {
  const ReplayBatch on_device = ToDevice(batch);
  StepConditioning conditioning = policy_.Prepare(on_device.conditioning);
  const at::Tensor prediction_BCHW =
      policy_.Predict(on_device.latents_BKCHW.select(1, 0).contiguous(),
                      on_device.timesteps_BK.select(1, 0).contiguous(), conditioning);
  const at::Tensor loss = (prediction_BCHW - on_device.latents_BKCHW.select(1, 1)).pow(2).mean();
  if (loss.requires_grad()) (loss * (weight * loss_scale_)).backward();
  conditioning.text.Backward();
  const at::Tensor of_loss = loss.detach().to(at::kDouble).reshape({1});
  return at::cat({of_loss, at::zeros({kNumbersPerStep - 1}, of_loss.options())}).unsqueeze(0);
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
  at::Tensor sum_P = at::cat(flat);
  return loss_scale_ == 1 ? sum_P : sum_P.div_(loss_scale_);
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

double ClipAndStep(const at::Tensor& gradient_P, double max_grad_norm,
                   const std::vector<at::Tensor>& parameters, AdamW* optimizer,
                   const std::function<bool(double norm)>& accepts) {
  const std::vector<at::Tensor> gradients = SplitLike(gradient_P, parameters);
  const double norm = ClipGradNorm(gradients, max_grad_norm);
  if (std::isfinite(norm) && (accepts == nullptr || accepts(norm))) optimizer->Step(gradients);
  return norm;
}

}  // namespace imageddpo
