#include "tests/testing/device/test_device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/testing/device/device_state.h"
#include "tests/testing/device/host_views.h"

namespace imageddpo {
namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;

// As CUDA's runtime: each thread has its current device, and its current stream of each device.
thread_local c10::DeviceIndex current_device = 0;
thread_local c10::StreamId current_streams[kNumTestDevices] = {};

std::atomic<c10::StreamId> last_stream{0};

void CheckIndex(c10::DeviceIndex index) {
  TORCH_CHECK(index >= 0 && index < kNumTestDevices, "there is no ", kTestDeviceName, ":",
              static_cast<int>(index), ", only ", kNumTestDevices, " of them");
}

c10::DeviceIndex Exchange(c10::DeviceIndex index) {
  CheckIndex(index);
  return std::exchange(current_device, index);
}

class Allocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t size_bytes) override {
    const c10::DeviceIndex device = current_device;
    void* const address = TestDeviceState().memory[device].Allocate(size_bytes);
    return {address, address, &Free, c10::Device(kType, device)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t size_bytes) const override {
    std::copy_n(static_cast<const char*>(DeviceMemory::Bytes(from)), size_bytes,
                static_cast<char*>(DeviceMemory::Bytes(to)));
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t /*pool*/) override {}
  void recordStream(const c10::DataPtr& /*data*/, c10::Stream /*stream*/) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    const DeviceCounters counters = CountersOf(TestDevice(index));
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = counters.allocated_bytes;
    stats.allocated_bytes[0].peak = counters.most_allocated_bytes;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex /*device*/) override {}
  void resetPeakStats(c10::DeviceIndex /*device*/) override {}
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex index) override {
    const size_t limit = TestDeviceState().memory[index].limit_bytes();
    const auto held = static_cast<size_t>(CountersOf(TestDevice(index)).allocated_bytes);
    return {limit - std::min(limit, held), limit};
  }

 private:
  static void Free(void* address) {
    DeviceState& state = TestDeviceState();
    for (int device = 0; device < kNumTestDevices; ++device) {
      DeviceMemory& memory = state.memory[device];
      if (!memory.Contains(address)) continue;
      state.queues.BeforeFree(device, {static_cast<const char*>(address), memory.SizeOf(address)});
      memory.Free(address);
    }
  }
};

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size_bytes) override {
    void* const address = TestDeviceState().queues.AllocatePinned(size_bytes);
    return {address, address, &Free, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t size_bytes) const override {
    default_copy_data(to, from, size_bytes);
  }

 private:
  static void Free(void* address) { TestDeviceState().queues.FreePinned(address); }
};

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {kType, Exchange(device.index())};
  }
  c10::Device getDevice() const override { return {kType, current_device}; }
  void setDevice(c10::Device device) const override { Exchange(device.index()); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    current_device = device.index();
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kNumTestDevices; }

  c10::Stream getStream(c10::Device device) const override { return CurrentStream(device); }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getNewStream(c10::Device device, int /*priority*/) const override {
    return c10::Stream(c10::Stream::UNSAFE, CurrentStream(device).device(), ++last_stream);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device,
                                      bool /*is_high_priority*/) const override {
    return getNewStream(device, 0);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = CurrentStream(stream.device());
    current_streams[stream.device_index()] = stream.id();
    return before;
  }
  bool queryStream(const c10::Stream& stream) const override {
    return TestDeviceState().queues.Query(stream);
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    TestDeviceState().queues.Synchronise(stream);
  }
  void synchronizeDevice(c10::DeviceIndex device) const override {
    TestDeviceState().queues.Synchronise(device);
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {
    delete static_cast<LateEvent*>(*event);
    *event = new LateEvent(TestDeviceState().queues.Record(stream));
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr) TestDeviceState().queues.Wait(stream, *static_cast<LateEvent*>(event));
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || TestDeviceState().queues.Query(*static_cast<LateEvent*>(event));
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) TestDeviceState().queues.Synchronise(*static_cast<LateEvent*>(event));
  }
  void destroyEvent(void* event, c10::DeviceIndex /*device*/) const noexcept override {
    delete static_cast<LateEvent*>(event);
  }
};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kNumTestDevices; }
  void setCurrentDevice(c10::DeviceIndex device) const override { Exchange(device); }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return Exchange(device);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return Exchange(device);
  }
  // Kernels are the CPU's and draw from its generator.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex /*device*/) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex /*device*/) const override {
    return at::detail::createCPUGenerator();
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PinnedAllocator allocator;
    return &allocator;
  }
  bool isPinnedPtr(const void* data) const override {
    return TestDeviceState().queues.IsPinned(data);
  }
  at::Device getDeviceFromPtr(void* data) const override {
    for (int device = 0; device < kNumTestDevices; ++device) {
      if (TestDeviceState().memory[device].Contains(data)) return TestDevice(device);
    }
    TORCH_CHECK(false, "the address is none of a test device");
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size_bytes) const override {
    GrowStorage(storage, size_bytes);
  }
};

}  // namespace

DeviceState& TestDeviceState() {
  static auto* const state = new DeviceState();  // Tensors may be freed after static objects are.
  return *state;
}

c10::Stream CurrentStream(c10::Device device) {
  const c10::DeviceIndex index = device.has_index() ? device.index() : current_device;
  CheckIndex(index);
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kType, index), current_streams[index]);
}

void UseTestDevices() {
  static std::once_flag once;
  std::call_once(once, [] {
    c10::register_privateuse1_backend(kTestDeviceName);
    at::RegisterPrivateUse1HooksInterface(new Hooks());
    c10::SetAllocator(kType, new Allocator());
    static const c10::impl::DeviceGuardImplRegistrar guard(kType, new Guard());
    RegisterDeviceKernels();
  });
}

at::Device TestDevice(int index) { return {kType, static_cast<c10::DeviceIndex>(index)}; }

DeviceCounters DeviceCounters::Since(const DeviceCounters& before) const {
  DeviceCounters since = *this;
  since.launches -= before.launches;
  since.synchronisations -= before.synchronisations;
  since.h2d_bytes -= before.h2d_bytes;
  since.d2h_bytes -= before.d2h_bytes;
  since.allocations -= before.allocations;
  return since;
}

std::string DeviceCounters::ToString() const {
  return absl::StrFormat(
      "%d launches, %d synchronisations, %d bytes to the device, %d bytes back, %d allocations, "
      "%d bytes allocated, at most %d",
      launches, synchronisations, h2d_bytes, d2h_bytes, allocations, allocated_bytes,
      most_allocated_bytes);
}

DeviceCounters CountersOf(at::Device device) {
  DeviceCounters counters;
  TestDeviceState().queues.Count(device.index(), &counters);
  TestDeviceState().memory[device.index()].Count(&counters);
  return counters;
}

size_t LimitMemory(at::Device device, size_t limit_bytes) {
  return TestDeviceState().memory[device.index()].SetLimit(limit_bytes);
}

void FailAllocation(at::Device device, int64_t number) {
  TestDeviceState().memory[device.index()].FailAllocation(number);
}

size_t NumPending(at::Device device) { return TestDeviceState().queues.NumPending(device.index()); }

}  // namespace imageddpo
