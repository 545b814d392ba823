#include "common/metrics/gpu_sensors.h"

#include <dlfcn.h>

#include "common/base/shared_library.h"

namespace imageddpo {

std::unique_ptr<const GpuSensors> GpuSensors::Load(const std::string& pci_bus_id,
                                                   const std::string& library_name) {
  if (pci_bus_id.empty()) return nullptr;
  // Never closed: a driver keeps threads and files of its own.
  void* const library = dlopen(library_name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  int (*init)() = nullptr;
  int (*find_device)(const char*, void**) = nullptr;
  Calls calls;
  const bool has_all = FindCall(library, "nvmlInit_v2", &init) &&
                       FindCall(library, "nvmlDeviceGetHandleByPciBusId_v2", &find_device) &&
                       FindCall(library, "nvmlDeviceGetPowerUsage", &calls.power_milliwatts) &&
                       FindCall(library, "nvmlDeviceGetUtilizationRates", &calls.utilization) &&
                       FindCall(library, "nvmlDeviceGetMemoryInfo", &calls.memory);
  void* device = nullptr;
  if (!has_all || init() != 0 || find_device(pci_bus_id.c_str(), &device) != 0) return nullptr;
  return std::unique_ptr<const GpuSensors>(new GpuSensors(calls, device));
}

GpuSensors::Reading GpuSensors::Read() const {
  Reading reading;
  if (unsigned milliwatts = 0; calls_.power_milliwatts(device_, &milliwatts) == 0) {
    reading.power_watts = milliwatts / 1000.0;
  }
  if (Utilization percent{}; calls_.utilization(device_, &percent) == 0) {
    reading.busy_ratio = percent.gpu / 100.0;
  }
  if (Memory memory{}; calls_.memory(device_, &memory) == 0) {
    reading.used_bytes = static_cast<int64_t>(memory.used);
  }
  return reading;
}

}  // namespace imageddpo
