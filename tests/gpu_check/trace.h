#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <string>

namespace imageddpo {

/// Runs `work` under PyTorch's profiler and writes what it saw, operators and the device's kernels,
/// in the form that chrome://tracing and Perfetto read. run.py sums it up.
void Trace(at::Device device, const std::string& file, const std::function<void()>& work);

}  // namespace imageddpo
