#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "common/comm/nccl/gpu_stream.h"

namespace imageddpo {

/// A high-priority stream of a GPU, for a communicator. In the CUDA configuration only.
/// @throws CommError  the device cannot be used.
std::unique_ptr<GpuStream> MakeCudaStream(at::Device device);

}  // namespace imageddpo
