#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/kernels/gpu/fused_kernels.h"

namespace imageddpo {

// Of the norm of what was recorded. Sums in another order stay ten times below the float32 bounds,
// and a TF32 product (10 bits) would be above them.
constexpr double kFloatBound = 1e-4;
constexpr double kBfloat16Bound = 5e-2;

/// One comparison of a tensor, or of many, with what was recorded.
struct CheckRow {
  std::string part;       ///< text_encoder, vae, unet, lora, scheduler, rollout, update.
  std::string name;       ///< The case and what of it was compared.
  std::string precision;  ///< fp32 or bf16.
  double error = 0;
  double bound = 0;
  std::string failure;  ///< Why there is no error to compare; empty: there is one.

  bool passed() const { return failure.empty() && error <= bound; }
};

/// Which comparisons to make, on which device and in which dtype. Recordings are in float32.
struct CheckOptions {
  std::string root = ".";  ///< The tree, or a copy of its tests/data/parity.
  at::Device device{at::kCPU};
  at::ScalarType dtype{at::kFloat};
  std::shared_ptr<const FusedKernels> fused;  ///< As ModelOptions::fused.

  bool bf16() const { return dtype == at::kBFloat16; }
  std::string precision() const { return bf16() ? "bf16" : "fp32"; }
};

/// ‖found − expected‖ / ‖expected‖ over all elements, in double on the CPU. Infinite where the
/// shapes differ or something found is not finite.
double RelativeError(const at::Tensor& found, const at::Tensor& expected);

nlohmann::json ToJson(const CheckRow& row);
int64_t CountFailed(const std::vector<CheckRow>& rows);

}  // namespace imageddpo
