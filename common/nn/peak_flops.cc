#include "common/nn/peak_flops.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>

namespace imageddpo {

double MeasurePeakFlops(at::Device device, at::ScalarType dtype) {
  constexpr int64_t kCpuSize = 1024, kGpuSize = 8192;  // Large enough to reach the peak.
  constexpr int kProducts = 4;
  const at::NoGradGuard no_grad;
  const int64_t size = device.is_cpu() ? kCpuSize : kGpuSize;
  const at::Tensor square = at::ones({size, size}, at::TensorOptions(device).dtype(dtype));
  double best_s = 0;
  for (int i = 0; i < kProducts; ++i) {
    const auto start = std::chrono::steady_clock::now();
    // Reading the value waits for the product, on a GPU too.
    (void)at::linear(square, square, /*bias_O=*/{})[0][0].item();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best_s = i == 0 ? seconds.count() : std::min(best_s, seconds.count());
  }
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / std::max(best_s, 1e-9);
}

}  // namespace imageddpo
