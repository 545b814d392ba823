#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <optional>
#include <string>

namespace imageddpo {

/// Which device it is, whatever number a process knows it by: with CUDA_VISIBLE_DEVICES, and with
/// parts of a GPU (MIG), "cuda:0" of two processes may be two devices or one.
struct DeviceIdentity {
  /// "GPU-" and the UUID that NVIDIA gives to a GPU, or to a part of one: the same in every process
  /// and container. Empty: not known, or the CPU.
  std::string id;
  std::string name;        ///< "NVIDIA H100 80GB HBM3"; empty as above.
  std::string pci_bus_id;  ///< "0000:1B:00.0", for people; the parts of a GPU have the same.
};

/// The calls of NVIDIA's driver that say it, as a table, so that a test can answer them. None makes
/// a context on a device. All return 0 or the driver's number of an error.
/// @param ordinal  the number that this process knows the device by.
struct GpuDriver {
  std::function<int(int ordinal, unsigned char (*bytes)[16])> uuid;
  std::function<int(int ordinal, char* text, int size)> name;
  std::function<int(int ordinal, char* text, int size)> pci_bus_id;
};

/// The driver of this host, loaded now; not set: there is none, or it is too old (before
/// CUDA 11.4).
std::optional<GpuDriver> LoadGpuDriver();

/// What the driver says of a device; what it does not know stays empty.
DeviceIdentity IdentityOf(const GpuDriver& driver, int ordinal);
/// The same of the driver of this host. A device that is no GPU has neither id nor name.
DeviceIdentity IdentityOf(at::Device device);

}  // namespace imageddpo
