#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Compiles CUDA C++ with NVRTC, NVIDIA's compiler as a library (libnvrtc.so.13, of the CUDA
/// libraries that come with libtorch). It needs neither a GPU nor its driver.
/// @param capability  of the GPU, major and minor: 80 for sm_80, 90 for sm_90.
/// @return  the GPU's machine code ("cubin"). FAILED_PRECONDITION: there is no such library here;
///          INVALID_ARGUMENT with the compiler's messages.
absl::StatusOr<std::string> CompileForGpu(const std::string& source, int capability);

}  // namespace imageddpo
