#include "common/diffusion/log_prob_gradients.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <utility>

namespace imageddpo {

LogProbGradients::LogProbGradients(Unet* unet, const Lora& lora, int64_t batch,
                                   const Conditioning& conditioning, const Guidance& guidance)
    : unet_(unet),
      batch_(batch),
      row_samples_R_(RowSamples(batch, conditioning.same_tokens_B, guidance)) {
  gradients_RP_ =
      at::zeros({static_cast<int64_t>(row_samples_R_.size()), lora.num_parameters()},
                at::TensorOptions().dtype(at::kFloat).device(lora.Parameters().front().device()));
  unet_->CaptureRowGradients(lora, gradients_RP_);
}

LogProbGradients::~LogProbGradients() { unet_->ReleaseRowGradients(); }

void LogProbGradients::Add(const DdimScheduler::StepResult& step) {
  if (!step.stochastic_B.any().item<bool>()) return;
  step.log_prob_B.sum().backward();
}

at::Tensor LogProbGradients::Take() {
  const at::NoGradGuard no_grad;
  unet_->ReleaseRowGradients();
  at::Tensor rows_RP = std::exchange(gradients_RP_, at::Tensor());
  if (rows_RP.size(0) == batch_) return rows_RP;  // One row each, in the order of the samples.
  const at::Tensor gradients_BP = at::zeros({batch_, rows_RP.size(1)}, rows_RP.options());
  const auto index = at::TensorOptions().dtype(at::kLong).device(rows_RP.device());
  return gradients_BP.index_add_(0, at::tensor(row_samples_R_, index), rows_RP);
}

}  // namespace imageddpo
