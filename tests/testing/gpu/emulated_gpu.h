#pragma once

#include <c10/core/Device.h>

#include <map>
#include <memory>
#include <string>

#include "common/kernels/gpu/fused_kernels.h"
#include "common/kernels/gpu/gpu_launcher.h"

namespace imageddpo {

/// How often each kernel was launched.
using LaunchCounts = std::map<std::string, int>;

/// Runs the kernels of common/kernels/gpu, from the very sources that NVRTC compiles, on tensors of
/// the host: the threads of a block take turns, one block after the other. Slow, for small
/// tensors. What it does not show: a GPU's memory model within a warp, its arithmetic's fused
/// multiply-adds, and whether NVRTC takes the sources (nvrtc_check does).
class EmulatedGpu : public GpuLauncher {
 public:
  /// @param counts  may be null.
  explicit EmulatedGpu(std::shared_ptr<LaunchCounts> counts = nullptr)
      : counts_(std::move(counts)) {}

  bool Reaches(at::Device device) const override { return device.is_cpu(); }
  /// @throws std::out_of_range  there is no kernel of that name.
  void Launch(at::Device device, const GpuLaunch& launch) override;

 private:
  std::shared_ptr<LaunchCounts> counts_;
};

inline std::shared_ptr<const FusedKernels> EmulatedKernels(
    std::shared_ptr<LaunchCounts> counts = nullptr) {
  return std::make_shared<FusedKernels>(std::make_unique<EmulatedGpu>(std::move(counts)));
}

}  // namespace imageddpo
