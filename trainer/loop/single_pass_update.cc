#include "trainer/loop/single_pass_update.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <stdexcept>
#include <utility>

namespace imageddpo {

void AddWeighted(const at::Tensor& gradients_BP, const std::vector<double>& derivative_B,
                 double weight, const at::Tensor& sum_P) {
  const int64_t batch = gradients_BP.size(0);
  if (static_cast<int64_t>(derivative_B.size()) != batch) {
    throw std::invalid_argument("AddWeighted: one derivative for each sample is needed");
  }
  const at::NoGradGuard no_grad;
  for (int64_t i = 0; i < batch; ++i) {
    sum_P.add_(gradients_BP.select(0, i),
               derivative_B[static_cast<size_t>(i)] * weight / static_cast<double>(batch));
  }
}

at::Tensor SinglePassUpdate::Accumulate(int64_t micro_batch, const at::Tensor& advantages_B,
                                        int64_t num_steps, double weight) {
  const at::Tensor gradients_BP = gradients_->Take(micro_batch);
  if (!sum_P_.defined()) sum_P_ = at::zeros({gradients_BP.size(1)}, gradients_BP.options());
  const OnPolicyLoss loss = loss_.LossAtSampling(advantages_B);
  AddWeighted(gradients_BP, loss.derivative_B, weight, sum_P_);
  at::Tensor numbers_KN = at::zeros({num_steps, kNumbersPerStep}, at::kDouble);
  numbers_KN.select(1, 0).fill_(loss.loss);
  return numbers_KN;
}

at::Tensor SinglePassUpdate::TakeGradient() { return std::exchange(sum_P_, at::Tensor()); }

}  // namespace imageddpo
