#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/kernels/gpu/fused_kernels.h"
#include "tests/gpu_check/check_row.h"

namespace imageddpo {

/// The kernels of common/kernels/gpu on a GPU; null on a CPU, which has none.
/// @return  what keeps the GPU from using them.
absl::StatusOr<std::shared_ptr<const FusedKernels>> KernelsOn(at::Device device);

/// Each kernel at sizes of SD 1.5 at 512 px, against libtorch's operators in float32 on the same
/// GPU.
std::vector<CheckRow> CheckKernels(const FusedKernels& kernels, const CheckOptions& options);

}  // namespace imageddpo
