#include "deploy/imageddpod/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <cstdlib>

namespace imageddpo {
namespace {

int NumberFromEnvironment(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? -1 : std::atoi(text);
}

}  // namespace

std::string DeviceKind() { return at::globalContext().hasCUDA() ? "cuda" : "cpu"; }

at::Device ChooseDevice(int index) {
  if (!at::globalContext().hasCUDA()) return at::kCPU;
  const int devices = std::max(1, static_cast<int>(at::detail::getCUDAHooks().deviceCount()));
  return {at::kCUDA, static_cast<at::DeviceIndex>(index % devices)};
}

int64_t DeviceMemoryBytes(at::Device device) {
  if (!device.is_cuda()) return 0;
  try {
    return static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).second);
  } catch (const c10::Error&) {  // A job will say what is wrong with the GPU.
    return 0;
  }
}

bool WorkersShareGpus() {
  if (!at::globalContext().hasCUDA()) return false;
  const int local_ranks = NumberFromEnvironment("OMPI_COMM_WORLD_LOCAL_SIZE");
  const bool has_controller = NumberFromEnvironment("OMPI_COMM_WORLD_RANK") ==
                              NumberFromEnvironment("OMPI_COMM_WORLD_LOCAL_RANK");
  const int workers = has_controller ? local_ranks - 1 : local_ranks;
  return workers > static_cast<int>(at::detail::getCUDAHooks().deviceCount());
}

int LocalWorkerIndex() {
  const int local_rank = NumberFromEnvironment("OMPI_COMM_WORLD_LOCAL_RANK");
  const int rank = NumberFromEnvironment("OMPI_COMM_WORLD_RANK");
  if (local_rank < 0 || rank < 0) return 0;
  // Ranks of a host are numbered in order, so rank 0 is on this host where the two agree.
  return std::max(0, rank == local_rank ? local_rank - 1 : local_rank);
}

}  // namespace imageddpo
