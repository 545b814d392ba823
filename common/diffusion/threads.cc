#include "common/diffusion/threads.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

namespace imageddpo {

void UseThreads(int64_t num_threads) {
  at::set_num_threads(1);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor ones = at::ones({16, 16}, type);
    at::matmul(at::exp(ones), ones);
  }
  at::set_num_threads(static_cast<int>(num_threads));
}

}  // namespace imageddpo
