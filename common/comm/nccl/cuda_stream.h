#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "common/comm/nccl/gpu_stream.h"

namespace imageddpo {

/// A stream of a GPU for what a communicator queues, of high priority. Part of the CUDA
/// configuration only. @throws CommError  the device cannot be used.
std::unique_ptr<GpuStream> MakeCudaStream(at::Device device);

}  // namespace imageddpo
