#pragma once

#include <c10/core/Device.h>

#include <array>

namespace imageddpo {

/// One launch of a kernel of this folder.
struct GpuLaunch {
  const char* kernel;              ///< "geglu_bf16"
  std::array<unsigned, 2> blocks;  ///< gridDim.x and .y
  unsigned threads;                ///< blockDim.x
  void** arguments;                ///< The address of each, in the kernel's order.
};

/// Who runs them: CudaLauncher on a GPU; in tests, threads of the host.
class GpuLauncher {
 public:
  virtual ~GpuLauncher() = default;

  /// Whether kernels can be launched on this device.
  virtual bool Reaches(at::Device device) const = 0;
  /// Queues a kernel on the device's current stream and returns at once.
  /// @throws std::runtime_error  naming the kernel and what the driver says.
  virtual void Launch(at::Device device, const GpuLaunch& launch) = 0;
};

}  // namespace imageddpo
