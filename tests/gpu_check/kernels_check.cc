#include "tests/gpu_check/kernels_check.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

/// Sums in another order; or one rounding to bfloat16.
constexpr double kKernelFloatBound = 1e-5, kKernelBfloat16Bound = 4e-3;

class KernelRows {
 public:
  KernelRows(const FusedKernels& kernels, const CheckOptions& options)
      : kernels_(kernels), options_(options) {}

  void GroupNorm(int64_t channels, int64_t side) {
    constexpr int64_t kBatch = 4, kGroups = 32;
    constexpr double kEps = 1e-5;
    const at::Tensor x = Random({kBatch, channels, side, side});
    const at::Tensor weight = Random({channels}), bias = Random({channels});
    const at::Tensor expected = at::silu(at::group_norm(
        x.to(at::kFloat), kGroups, weight.to(at::kFloat), bias.to(at::kFloat), kEps));
    Add(absl::StrCat("group norm ", channels, " x ", side, "²"),
        kernels_.GroupNorm(x, weight, bias, kGroups, kEps, /*silu=*/true), expected);
  }

  void Geglu(int64_t rows, int64_t width) {
    const at::Tensor x = Random({rows, 2 * width});
    const std::vector<at::Tensor> halves = x.to(at::kFloat).chunk(2, -1);
    Add(absl::StrCat("geglu ", rows, " x ", width), kernels_.Geglu(x),
        halves[0] * at::gelu(halves[1]));
  }

  void LoraDown(int64_t rows, int64_t features, int64_t rank) {
    const at::Tensor x = Random({rows, features});
    const at::Tensor down = Random({rank, features}).to(at::kFloat);
    Add(absl::StrCat("lora down ", rows, " x ", features, " x ", rank), kernels_.LoraDown(x, down),
        at::linear(x.to(at::kFloat), down), /*rounded=*/false);
  }

  std::vector<CheckRow> Take() { return std::move(rows_); }

 private:
  at::Tensor Random(at::IntArrayRef shape) const {
    return at::randn(shape).to(options_.device).to(options_.dtype);
  }

  void Add(const std::string& name, const at::Tensor& found, const at::Tensor& expected,
           bool rounded = true) {
    rows_.push_back(
        {.part = "kernels",
         .name = name,
         .precision = options_.precision(),
         .error = RelativeError(found, expected),
         .bound = rounded && options_.bf16() ? kKernelBfloat16Bound : kKernelFloatBound});
  }

  const FusedKernels& kernels_;
  const CheckOptions& options_;
  std::vector<CheckRow> rows_;
};

}  // namespace

std::vector<CheckRow> CheckKernels(const FusedKernels& kernels, const CheckOptions& options) {
  const at::NoGradGuard no_grad;
  KernelRows rows(kernels, options);
  for (const auto& [channels, side] :
       std::vector<std::pair<int64_t, int64_t>>{{320, 64}, {960, 64}, {1280, 8}, {2560, 16}}) {
    rows.GroupNorm(channels, side);
  }
  rows.Geglu(4 * 4096, 1280);
  rows.Geglu(4 * 64, 5120);
  rows.LoraDown(4 * 4096, 320, 3 * 8);
  rows.LoraDown(4 * 256, 1280, 3 * 16);
  return rows.Take();
}

}  // namespace imageddpo
