#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include "tests/testing/device/device_memory.h"
#include "tests/testing/device/device_queue.h"

namespace imageddpo {

/// The devices of this process: libtorch's registries, which they are entered in, live as long.
struct DeviceState {
  DeviceMemory memory[kNumTestDevices] = {DeviceMemory(0), DeviceMemory(1)};
  DeviceQueues queues;
};

DeviceState& TestDeviceState();

/// This thread's current stream of a device.
c10::Stream CurrentStream(c10::Device device);

/// Registers the kernels with libtorch's dispatcher.
void RegisterDeviceKernels();

}  // namespace imageddpo
