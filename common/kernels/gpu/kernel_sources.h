#pragma once

#include <string>

#include "absl/types/span.h"
#include "common/base/embedded_file.h"

namespace imageddpo {

/// The files of the kernels, in the order in which they are compiled one behind the other.
absl::Span<const EmbeddedFile> GpuKernelFiles();
std::string GpuKernelSource();

/// The names of all kernels, as the driver knows them.
absl::Span<const char* const> GpuKernelNames();

}  // namespace imageddpo
