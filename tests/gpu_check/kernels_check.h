#pragma once

#include <vector>

#include "common/kernels/gpu/fused_kernels.h"
#include "tests/gpu_check/check_row.h"

namespace imageddpo {

/// Each kernel at sizes of SD 1.5 at 512 px, against libtorch's operators in float32 on the same
/// GPU.
std::vector<CheckRow> CheckKernels(const FusedKernels& kernels, const CheckOptions& options);

}  // namespace imageddpo
