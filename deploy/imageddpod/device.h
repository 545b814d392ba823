#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace imageddpo {

/// The kind of device that workers of this build and host compute on, as libtorch names it: "cuda"
/// where both have a GPU, "cpu" where there is none.
std::string DeviceKind();

/// The device of the `index`-th worker of this host: GPU index modulo their number, or the CPU.
at::Device ChooseDevice(int index);

/// The memory of a GPU; 0 for the CPU, and where it cannot be known.
int64_t DeviceMemoryBytes(at::Device device);

/// After a job: gives memory that libtorch keeps for later back to the device, for others on it,
/// and the host's pinned memory back to the host. Nothing on the CPU.
void ReturnDeviceMemory(at::Device device);

/// Whether the device still computes for this process: false once its context is broken, as after
/// an address that a kernel should not have used. A device without free memory works. Waits for it.
bool DeviceWorks(at::Device device);

/// 0-based among the workers of this host, as the launcher tells it; rank 0 is no worker.
int LocalWorkerIndex();

}  // namespace imageddpo
