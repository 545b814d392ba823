#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace imageddpo {

/// @param name  cpu, or cuda (the first GPU). FAILED_PRECONDITION: this program finds no GPU.
absl::StatusOr<at::Device> FindDevice(const std::string& name);

/// Waits until all that was queued on the device is done.
void Synchronize(at::Device device);

/// What PyTorch's allocator holds on a device; all 0 on a CPU.
struct DeviceMemory {
  int64_t allocated_bytes = 0;  ///< In tensors, now.
  int64_t peak_allocated_bytes = 0;
  int64_t peak_reserved_bytes = 0;  ///< Taken from the device, unused pieces included.
};
DeviceMemory GetDeviceMemory(at::Device device);
/// Starts the measurement of peaks again.
void ResetPeakMemory(at::Device device);

}  // namespace imageddpo
