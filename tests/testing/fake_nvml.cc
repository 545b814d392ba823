// A libnvidia-ml.so with two GPUs: one that measures everything, one that measures its memory
// alone.

#include <cstring>

namespace {

constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3, kNotFound = 6,
              kUninitialized = 1;
int first = 1, second = 2;
bool is_begun = false;

bool IsFirst(void* device) { return device == &first; }

}  // namespace

extern "C" {

int nvmlInit_v2() {
  is_begun = true;
  return kSuccess;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* pci_bus_id, void** device) {
  if (!is_begun) return kUninitialized;
  if (pci_bus_id == nullptr || device == nullptr) return kInvalidArgument;
  *device = nullptr;
  if (std::strcmp(pci_bus_id, "0000:1B:00.0") == 0) *device = &first;
  if (std::strcmp(pci_bus_id, "0000:1C:00.0") == 0) *device = &second;
  return *device == nullptr ? kNotFound : kSuccess;
}

int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  if (!IsFirst(device)) return kNotSupported;
  *milliwatts = 312'500;
  return kSuccess;
}

int nvmlDeviceGetUtilizationRates(void* device, unsigned (*percent)[2]) {
  if (!IsFirst(device)) return kNotSupported;
  (*percent)[0] = 87;
  (*percent)[1] = 40;
  return kSuccess;
}

int nvmlDeviceGetMemoryInfo(void* device, unsigned long long (*total_free_used)[3]) {
  (*total_free_used)[0] = 80ULL << 30;
  (*total_free_used)[2] = IsFirst(device) ? 60ULL << 30 : 1ULL << 30;
  (*total_free_used)[1] = (*total_free_used)[0] - (*total_free_used)[2];
  return kSuccess;
}

}  // extern "C"
