#pragma once

#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/testing/device/test_device.h"

namespace imageddpo {

struct MemoryRange {
  const char* begin = nullptr;
  size_t size_bytes = 0;
  bool Meets(const MemoryRange& other) const;
};

/// A copy between the host and a device that has been asked for and runs later.
struct LateCopy {
  MemoryRange device;
  MemoryRange host;
  c10::weak_intrusive_ptr<c10::StorageImpl> host_storage;  ///< Of the host's side, not kept alive.
  bool pinned = false;                                     ///< The host's side.
  std::function<void()> run;
};

/// An event of a stream: done when everything up to `number` has run.
struct LateEvent {
  int device = 0;
  c10::StreamId stream = 0;
  uint64_t number = 0;
};

/// What waits on the streams of all devices, and the host's pinned memory, which late copies keep.
/// Kernels do not wait: they run when they are called, after whatever they need. Thread-safe. An
/// error of something that ran late is thrown by the next call of its device that can throw.
class DeviceQueues {
 public:
  void Copy(const c10::Stream& stream, LateCopy copy);

  /// Before a kernel of this stream reads or writes the ranges.
  /// @throws c10::Error  a copy on another stream, for which the stream has not waited, is under
  /// way
  ///                     there; or something late has failed.
  void BeforeKernel(const c10::Stream& stream, const std::vector<MemoryRange>& ranges);
  /// Before a block of a device is given back: what was asked for earlier still finds it.
  void BeforeFree(int device, const MemoryRange& range) noexcept;

  LateEvent Record(const c10::Stream& stream);
  void Wait(const c10::Stream& stream, const LateEvent& event);
  /// Every question lets the stream do one thing more, so that polling ends.
  bool Query(const LateEvent& event);
  bool Query(const c10::Stream& stream);

  /// The host waits.
  void Synchronise(const LateEvent& event);
  void Synchronise(const c10::Stream& stream);
  void Synchronise(int device);

  size_t NumPending(int device) const;
  void Count(int device, DeviceCounters* counters) const;
  void AddLaunch(int device);
  void AddSynchronisation(int device);
  void AddBytes(int device, bool to_device, size_t size_bytes);

  void* AllocatePinned(size_t size_bytes);
  void FreePinned(void* address) noexcept;
  bool IsPinned(const void* address) const;

 private:
  struct Task {
    uint64_t number;
    std::optional<LateCopy> copy;  ///< Else only a mark: an event.
    std::optional<LateEvent> waits_for;
  };
  struct Device {
    std::map<c10::StreamId, std::deque<Task>> streams;
    std::string error;
    DeviceCounters counters;
  };

  void Add(const c10::Stream& stream, Task task);
  void RunFirst(int device, std::deque<Task>* tasks) noexcept;
  void RunThrough(int device, c10::StreamId stream, uint64_t number) noexcept;
  void ThrowError(int device);
  void FreeUnusedPinned() noexcept;

  mutable std::recursive_mutex mutex_;
  uint64_t last_number_ = 0;
  Device devices_[kNumTestDevices];
  std::map<const char*, size_t> pinned_;  ///< Sizes by address, given back ones included.
  std::set<const char*> pinned_to_free_;  ///< Given back, but a late copy needs them.
};

}  // namespace imageddpo
