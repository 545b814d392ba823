#include "common/diffusion/log_prob_gradients.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "common/device/copies.h"

namespace imageddpo {

LogProbGradients::LogProbGradients(Denoiser* denoiser, const Lora& lora, int64_t batch,
                                   const Conditioning& conditioning, const Guidance& guidance,
                                   double loss_scale)
    : denoiser_(denoiser),
      batch_(batch),
      loss_scale_(loss_scale),
      row_samples_R_(RowSamples(batch, conditioning.same_tokens_B, guidance)) {
  const auto rows = static_cast<int64_t>(row_samples_R_.size());
  for (const at::Tensor& parameter : lora.Parameters()) {
    row_gradients_.push_back(at::zeros({rows, parameter.size(0), parameter.size(1)},
                                       parameter.options().requires_grad(false)));
  }
  denoiser_->CaptureRowGradients(lora, row_gradients_);
}

LogProbGradients::~LogProbGradients() { denoiser_->ReleaseRowGradients(); }

void LogProbGradients::Add(const StepResult& step) {
  if (!step.stochastic_B.any().item<bool>()) return;
  const at::Tensor sum = step.log_prob_B.sum();
  (loss_scale_ == 1 ? sum : sum * loss_scale_).backward();
}

at::Tensor LogProbGradients::Take() {
  const at::NoGradGuard no_grad;
  denoiser_->ReleaseRowGradients();
  std::vector<at::Tensor> flat;
  for (const at::Tensor& rows : std::exchange(row_gradients_, {})) flat.push_back(rows.flatten(1));
  const at::Tensor rows_RP = at::cat(flat, 1);
  if (loss_scale_ != 1) rows_RP.div_(loss_scale_);
  if (rows_RP.size(0) == batch_) return rows_RP;  // One row each, in the order of the samples.
  const at::Tensor gradients_BP = at::zeros({batch_, rows_RP.size(1)}, rows_RP.options());
  const at::Tensor samples_R = MoveTo(at::tensor(row_samples_R_, at::kLong), rows_RP.device());
  return gradients_BP.index_add_(0, samples_R, rows_RP);
}

}  // namespace imageddpo
