#include "common/nn/peak_flops.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>

namespace imageddpo {

namespace {

/// Of a product of two such matrices.
double MeasureSeconds(const at::Tensor& square) {
  const auto start = std::chrono::steady_clock::now();
  // Reading the value waits for the product, on a GPU too.
  (void)at::linear(square, square, /*bias_O=*/{})[0][0].item();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double MeasurePeakFlops(at::Device device, at::ScalarType dtype) {
  // Large enough to reach the peak: doubled until a product takes a while.
  constexpr int64_t kLeastSize = 1024, kMostSize = 8192;
  constexpr double kLongEnoughS = 0.01;
  constexpr int kProducts = 4;
  const at::NoGradGuard no_grad;
  double best_s = 0;
  int64_t size = kLeastSize;
  for (;; size *= 2) {
    const at::Tensor square = at::ones({size, size}, at::TensorOptions(device).dtype(dtype));
    best_s = MeasureSeconds(square);
    for (int i = 1; i < kProducts; ++i) best_s = std::min(best_s, MeasureSeconds(square));
    if (best_s >= kLongEnoughS || size == kMostSize) break;
  }
  const auto n = static_cast<double>(size);
  return 2 * n * n * n / std::max(best_s, 1e-9);
}

}  // namespace imageddpo
