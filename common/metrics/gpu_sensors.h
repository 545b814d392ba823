#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace imageddpo {

/// What NVIDIA's management library (NVML) measures of a GPU: the whole of it, whoever uses it. It
/// is loaded where it is there, and not needed to build or to start. Thread-compatible.
class GpuSensors {
 public:
  /// Part of NVIDIA's driver, beside nvidia-smi.
  static constexpr char kLibrary[] = "libnvidia-ml.so.1";

  /// Not set: this GPU, or this driver, does not measure it (busy_ratio with MIG).
  struct Reading {
    std::optional<double> power_watts;
    std::optional<double> busy_ratio;  ///< Share of the last moments in which a kernel ran, 0 to 1.
    std::optional<int64_t> used_bytes;  ///< Of its memory, by all processes.
  };

  /// @param pci_bus_id  of the GPU: DeviceIdentity.pci_bus_id.
  /// @return null: there is no such library or no such GPU.
  static std::unique_ptr<const GpuSensors> Load(const std::string& pci_bus_id,
                                                const std::string& library = kLibrary);

  /// Takes some microseconds to milliseconds.
  Reading Read() const;

 private:
  // The types are those of nvml.h: nvmlReturn_t is int, nvmlDevice_t a pointer.
  struct Utilization {
    unsigned gpu, memory;  // Percent.
  };
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Calls {
    int (*power_milliwatts)(void* device, unsigned* value) = nullptr;
    int (*utilization)(void* device, Utilization* value) = nullptr;
    int (*memory)(void* device, Memory* value) = nullptr;
  };
  GpuSensors(const Calls& calls, void* device) : calls_(calls), device_(device) {}

  const Calls calls_;
  void* const device_;
};

}  // namespace imageddpo
