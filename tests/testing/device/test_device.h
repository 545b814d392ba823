#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace imageddpo {

/// Two accelerators for tests, "testdevice:0" and ":1" (PrivateUse1), which stand in for GPUs.
/// Their kernels are libtorch's for the CPU, so that numbers are comparable; what they share with a
/// GPU is how they may be used:
/// - The host cannot touch their memory: a tensor's address faults. Kernels reach the bytes at
///   another address, which only this folder knows.
/// - Fresh memory holds no zeros: NaN where it is read as a float.
/// - A copy with non_blocking runs late: not before a kernel of its stream needs one of its
/// device's
///   tensors, or the host waits. Until then its source may be overwritten, which shows in the
///   result, and it does not keep its source alive: one that is freed before is an error, unless it
///   is pinned, which the pinned allocator keeps until the copy has run, as CUDA's does.
/// - Operands on another device are refused, except numbers (0-dimensional CPU tensors).
/// - Everything that a GPU would do is counted.
/// A GPU's kernels themselves are not stood in for: no arithmetic of theirs, no streams that
/// overlap kernels, no cuDNN, no faults of hardware.
///
/// Registers them with libtorch for the rest of this process; every later call does nothing.
/// at::getAccelerator() is this device from then on, so programs call it for themselves, first.
void UseTestDevices();

constexpr int kNumTestDevices = 2;
constexpr const char* kTestDeviceName = "testdevice";

/// "testdevice:<index>".
at::Device TestDevice(int index);

/// What one device has done since the process started.
struct DeviceCounters {
  int64_t launches = 0;  ///< Kernels, copies within a device included.
  int64_t synchronisations =
      0;  ///< The host waited: values read, copies that block, synchronise().
  int64_t h2d_bytes = 0;
  int64_t d2h_bytes = 0;
  int64_t allocations = 0;           ///< Blocks asked for.
  int64_t allocated_bytes = 0;       ///< Held now; no difference of two readings.
  int64_t most_allocated_bytes = 0;  ///< The most ever held; no difference either.

  DeviceCounters Since(const DeviceCounters& before) const;
  std::string ToString() const;
};

DeviceCounters CountersOf(at::Device device);

/// The device's memory, by default 4 GiB.
/// @return  what it was before.
size_t LimitMemory(at::Device device, size_t limit_bytes);

/// The `number`-th allocation from now on (1: the next) throws c10::OutOfMemoryError, and no other.
void FailAllocation(at::Device device, int64_t number);

/// Copies and events that wait on the device's streams.
size_t NumPending(at::Device device);

}  // namespace imageddpo
