#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>

#include <utility>
#include <vector>

#include "tests/testing/device/device_queue.h"

namespace imageddpo {

/// The tensors of one kernel call as CPU tensors over the device's bytes, so that libtorch's CPU
/// kernels can be called on them. Tensors that share a storage still do.
class HostViews {
 public:
  /// The CPU tensor of a device's tensor; the same one for the same tensor.
  at::Tensor Of(const at::Tensor& on_device);

  /// What a kernel returned, for the caller: the device's tensor that it is, a view of one, or a
  /// new tensor on the device.
  at::Tensor ToDevice(const at::Tensor& result, c10::Device device);

  /// After the call: gives the device's tensors the sizes that the kernel gave to its outputs.
  void TakeSizes();

  /// The bytes that the call may touch, as the device's addresses.
  std::vector<MemoryRange> Ranges() const;

 private:
  struct Pair {
    at::Tensor on_device;
    at::Tensor on_host;
  };
  struct Shared {
    c10::Storage on_device;
    c10::Storage on_host;
    const void* bytes = nullptr;
  };

  Shared& SharedOf(const c10::Storage& on_device);
  std::vector<Pair> pairs_;
  std::vector<Shared> storages_;
};

/// Makes a device's storage at least this large; what it holds is kept.
void GrowStorage(const c10::Storage& storage, size_t size_bytes);

}  // namespace imageddpo
