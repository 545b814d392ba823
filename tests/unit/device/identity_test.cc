#include "common/device/identity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/testing/device/test_device.h"

namespace imageddpo {
namespace {

/// A host with two GPUs that answers as NVIDIA's driver.
GpuDriver TwoGpus() {
  const auto answer = [](const std::string& text) {
    return [text](int ordinal, char* to, int size) {
      if (ordinal > 1) return 101;  // CUDA_ERROR_INVALID_DEVICE
      const std::string whole = text + std::to_string(ordinal);
      std::strncpy(to, whole.c_str(), static_cast<size_t>(size));
      return 0;
    };
  };
  return {.uuid =
              [](int ordinal, unsigned char(*bytes)[16]) {
                if (ordinal > 1) return 101;
                for (int i = 0; i < 16; ++i) {
                  (*bytes)[i] = static_cast<unsigned char>(16 * ordinal + i);
                }
                return 0;
              },
          .name = answer("model "),
          .pci_bus_id = answer("0000:1B:00.")};
}

TEST(DeviceIdentity, IsWhatTheDriverSays) {
  const DeviceIdentity first = IdentityOf(TwoGpus(), 0), second = IdentityOf(TwoGpus(), 1);
  EXPECT_EQ(first.id, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
  EXPECT_EQ(second.id, "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f");
  EXPECT_EQ(second.name, "model 1");
  EXPECT_EQ(second.pci_bus_id, "0000:1B:00.1");
}

TEST(DeviceIdentity, IsEmptyWhereTheDriverDoesNotKnow) {
  const DeviceIdentity unknown = IdentityOf(TwoGpus(), 2);
  EXPECT_EQ(unknown.id + unknown.name + unknown.pci_bus_id, "");
  UseTestDevices();
  for (const at::Device device : {at::Device(at::kCPU), TestDevice(0)}) {
    EXPECT_EQ(IdentityOf(device).id, "") << device;
  }
}

}  // namespace
}  // namespace imageddpo
