#include "common/device/identity.h"

#include <absl/strings/str_format.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "common/base/shared_library.h"

namespace imageddpo {
namespace {

constexpr int kTextBytes = 256;

/// As nvidia-smi writes it: "GPU-8f5a2c1e-…", groups of 4, 2, 2, 2 and 6 bytes.
std::string UuidText(const unsigned char (&bytes)[16]) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", bytes[i]);
  }
  return text;
}

}  // namespace

std::optional<GpuDriver> LoadGpuDriver() {
  // Never closed: libtorch uses the same library. The types are those of cuda.h: CUresult and
  // CUdevice are int, CUuuid is 16 bytes.
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return std::nullopt;
  int (*init)(unsigned) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*uuid)(unsigned char(*)[16], int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*pci_bus_id)(char*, int, int) = nullptr;
  if (!FindCall(library, "cuInit", &init) || !FindCall(library, "cuDeviceGet", &get) ||
      !FindCall(library, "cuDeviceGetUuid_v2", &uuid) ||
      !FindCall(library, "cuDeviceGetName", &name) ||
      !FindCall(library, "cuDeviceGetPCIBusId", &pci_bus_id) || init(0) != 0) {
    return std::nullopt;
  }
  const auto with_device = [get](int ordinal, const auto& ask) {
    int device = 0;
    const int found = get(&device, ordinal);
    return found != 0 ? found : ask(device);
  };
  return GpuDriver{
      .uuid =
          [=](int ordinal, unsigned char(*bytes)[16]) {
            return with_device(ordinal, [&](int device) { return uuid(bytes, device); });
          },
      .name =
          [=](int ordinal, char* text, int size) {
            return with_device(ordinal, [&](int device) { return name(text, size, device); });
          },
      .pci_bus_id =
          [=](int ordinal, char* text, int size) {
            return with_device(ordinal, [&](int device) { return pci_bus_id(text, size, device); });
          }};
}

DeviceIdentity IdentityOf(const GpuDriver& driver, int ordinal) {
  DeviceIdentity identity;
  unsigned char bytes[16] = {};
  if (driver.uuid(ordinal, &bytes) == 0) identity.id = UuidText(bytes);
  const auto text = [&](const auto& ask) {
    std::array<char, kTextBytes> buffer{};
    if (ask(ordinal, buffer.data(), kTextBytes - 1) != 0) return std::string();
    return std::string(buffer.begin(), std::find(buffer.begin(), buffer.end(), '\0'));
  };
  identity.name = text(driver.name);
  identity.pci_bus_id = text(driver.pci_bus_id);
  return identity;
}

DeviceIdentity IdentityOf(at::Device device) {
  if (!device.is_cuda()) return {};
  const std::optional<GpuDriver> driver = LoadGpuDriver();
  return driver ? IdentityOf(*driver, device.index()) : DeviceIdentity{};
}

}  // namespace imageddpo
