#include "deploy/imageddpod/device.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace imageddpo {
namespace {

int NumberFromEnvironment(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? -1 : std::atoi(text);
}

}  // namespace

std::string DeviceKind() {
  return c10::DeviceTypeName(at::getAccelerator().value_or(at::kCPU), /*lower_case=*/true);
}

at::Device ChooseDevice(int index) {
  const std::optional<c10::DeviceType> type = at::getAccelerator();
  if (!type) return at::kCPU;
  const int devices = std::max<int>(1, at::accelerator::deviceCount());
  return {*type, static_cast<at::DeviceIndex>(index % devices)};
}

int64_t DeviceMemoryBytes(at::Device device) {
  if (device.is_cpu()) return 0;
  try {
    return static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).second);
  } catch (const c10::Error&) {  // A job will say what is wrong with the GPU.
    return 0;
  }
}

void ReturnDeviceMemory(at::Device device) {
  if (device.is_cpu()) return;
  try {
    c10::getDeviceAllocator(device.type())->emptyCache();
    if (device.is_cuda()) at::getHostAllocator(device.type())->empty_cache();
  } catch (const c10::Error&) {  // The next job will say what is wrong with the GPU.
  }
}

bool DeviceWorks(at::Device device) {
  if (device.is_cpu()) return true;
  try {
    const c10::DeviceGuard guard(device);
    return at::ones({1}, at::TensorOptions().device(device)).item<float>() == 1.0F;
  } catch (const c10::OutOfMemoryError&) {
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

int LocalWorkerIndex() {
  const int local_rank = NumberFromEnvironment("OMPI_COMM_WORLD_LOCAL_RANK");
  const int rank = NumberFromEnvironment("OMPI_COMM_WORLD_RANK");
  if (local_rank < 0 || rank < 0) return 0;
  // Ranks of a host are numbered in order, so rank 0 is on this host where the two agree.
  return std::max(0, rank == local_rank ? local_rank - 1 : local_rank);
}

}  // namespace imageddpo
