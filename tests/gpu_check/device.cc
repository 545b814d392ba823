#include "tests/gpu_check/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "absl/strings/str_cat.h"

namespace imageddpo {

absl::StatusOr<at::Device> FindDevice(const std::string& name) {
  if (name == "cpu") return at::Device(at::kCPU);
  if (name != "cuda") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device is ", name, ", it must be cpu or cuda"));
  }
  if (!at::globalContext().hasCUDA()) {
    return absl::FailedPreconditionError(
        "--device is cuda, but this program finds no GPU: it is the CPU configuration, or the "
        "machine has none, or its driver is older than CUDA 13");
  }
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return at::Device(at::kCUDA, 0);
}

void Synchronize(at::Device device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

DeviceMemory GetDeviceMemory(at::Device device) {
  if (device.is_cpu()) return {};
  using c10::CachingAllocator::StatType;
  const auto all = static_cast<size_t>(StatType::AGGREGATE);
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return {.allocated_bytes = stats.allocated_bytes[all].current,
          .peak_allocated_bytes = stats.allocated_bytes[all].peak,
          .peak_reserved_bytes = stats.reserved_bytes[all].peak};
}

void ResetPeakMemory(at::Device device) {
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

}  // namespace imageddpo
