#include "trainer/loop/single_pass_update.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace imageddpo {

void AddWeighted(const at::Tensor& gradients_BP, const at::Tensor& advantages_B,
                 const PpoOptions& options, double weight, const at::Tensor& sum_P) {
  const int64_t batch = gradients_BP.size(0);
  if (advantages_B.dim() != 1 || advantages_B.size(0) != batch) {
    throw std::invalid_argument("AddWeighted: one advantage for each sample is needed");
  }
  const at::NoGradGuard no_grad;
  for (int64_t i = 0; i < batch; ++i) {
    const double advantage = std::clamp(static_cast<double>(advantages_B[i].item<float>()),
                                        -options.adv_clip_max, options.adv_clip_max);
    sum_P.add_(gradients_BP.select(0, i), -advantage * weight / static_cast<double>(batch));
  }
}

std::vector<StepStatistics> SinglePassUpdate::Accumulate(int64_t micro_batch,
                                                         const at::Tensor& advantages_B,
                                                         int64_t num_steps, double weight) {
  const at::Tensor gradients_BP = gradients_->Take(micro_batch);
  if (!sum_P_.defined()) sum_P_ = at::zeros({gradients_BP.size(1)}, gradients_BP.options());
  AddWeighted(gradients_BP, advantages_B, options_, weight, sum_P_);
  const double loss =
      -advantages_B.clamp(-options_.adv_clip_max, options_.adv_clip_max).mean().item<double>();
  return std::vector<StepStatistics>(static_cast<size_t>(num_steps), {.loss = loss});
}

at::Tensor SinglePassUpdate::TakeGradient() { return std::exchange(sum_P_, at::Tensor()); }

}  // namespace imageddpo
