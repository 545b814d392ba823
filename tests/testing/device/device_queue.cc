#include "tests/testing/device/device_queue.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr uint64_t kEverything = std::numeric_limits<uint64_t>::max();
constexpr size_t kPinnedAlignment = 64;
constexpr int kPinnedFill = 0xFF;

}  // namespace

bool MemoryRange::Meets(const MemoryRange& other) const {
  return size_bytes > 0 && other.size_bytes > 0 && begin < other.begin + other.size_bytes &&
         other.begin < begin + size_bytes;
}

void DeviceQueues::Add(const c10::Stream& stream, Task task) {
  task.number = ++last_number_;
  devices_[stream.device_index()].streams[stream.id()].push_back(std::move(task));
}

void DeviceQueues::RunFirst(int device, std::deque<Task>* tasks) noexcept {
  const Task task = std::move(tasks->front());
  tasks->pop_front();
  if (task.waits_for) {
    RunThrough(task.waits_for->device, task.waits_for->stream, task.waits_for->number);
  }
  if (!task.copy) return;
  std::string& error = devices_[device].error;
  try {
    if (!task.copy->pinned && task.copy->host_storage.expired()) {
      error = "a non-blocking copy ran after the host's side of it had been freed";
    } else {
      task.copy->run();
    }
  } catch (const std::exception& failure) {
    error = absl::StrCat("a non-blocking copy failed: ", failure.what());
  }
}

void DeviceQueues::RunThrough(int device, c10::StreamId stream, uint64_t number) noexcept {
  auto& tasks = devices_[device].streams[stream];
  while (!tasks.empty() && tasks.front().number <= number) RunFirst(device, &tasks);
  FreeUnusedPinned();
}

void DeviceQueues::ThrowError(int device) {
  const std::string error = std::exchange(devices_[device].error, "");
  TORCH_CHECK(error.empty(), kTestDeviceName, ":", device, ": ", error);
}

void DeviceQueues::Copy(const c10::Stream& stream, LateCopy copy) {
  const std::lock_guard lock(mutex_);
  ThrowError(stream.device_index());
  Add(stream, {.copy = std::move(copy)});
}

void DeviceQueues::BeforeKernel(const c10::Stream& stream, const std::vector<MemoryRange>& ranges) {
  const std::lock_guard lock(mutex_);
  const int device = stream.device_index();
  const auto meets = [&](const Task& task) {
    return task.copy && std::any_of(ranges.begin(), ranges.end(), [&](const MemoryRange& range) {
             return range.Meets(task.copy->device);
           });
  };
  const auto waits = [&](const auto& tasks) {
    return std::any_of(tasks.begin(), tasks.end(), meets);
  };
  auto& streams = devices_[device].streams;
  if (std::any_of(streams.begin(), streams.end(),
                  [&](const auto& entry) { return waits(entry.second); })) {
    RunThrough(device, stream.id(), kEverything);
    for (const auto& [id, tasks] : streams) {
      TORCH_CHECK(!waits(tasks), kTestDeviceName, ":", device, ": a kernel on stream ", stream.id(),
                  " uses a tensor that a copy on stream ", id,
                  " has not finished with, and has not waited for an event of it");
    }
  }
  ThrowError(device);
}

void DeviceQueues::BeforeFree(int device, const MemoryRange& range) noexcept {
  const std::lock_guard lock(mutex_);
  for (auto& [stream, tasks] : devices_[device].streams) {
    uint64_t last = 0;
    for (const Task& task : tasks) {
      if (task.copy && task.copy->device.Meets(range)) last = task.number;
    }
    if (last > 0) RunThrough(device, stream, last);
  }
}

LateEvent DeviceQueues::Record(const c10::Stream& stream) {
  const std::lock_guard lock(mutex_);
  Add(stream, {});
  return {.device = stream.device_index(), .stream = stream.id(), .number = last_number_};
}

void DeviceQueues::Wait(const c10::Stream& stream, const LateEvent& event) {
  const std::lock_guard lock(mutex_);
  Add(stream, {.waits_for = event});
}

bool DeviceQueues::Query(const LateEvent& event) {
  const std::lock_guard lock(mutex_);
  auto& tasks = devices_[event.device].streams[event.stream];
  const bool done = tasks.empty() || tasks.front().number > event.number;
  if (!done) RunFirst(event.device, &tasks);
  FreeUnusedPinned();
  return done;
}

bool DeviceQueues::Query(const c10::Stream& stream) {
  return Query(
      LateEvent{.device = stream.device_index(), .stream = stream.id(), .number = kEverything});
}

void DeviceQueues::Synchronise(const LateEvent& event) {
  const std::lock_guard lock(mutex_);
  ++devices_[event.device].counters.synchronisations;
  RunThrough(event.device, event.stream, event.number);
  ThrowError(event.device);
}

void DeviceQueues::Synchronise(const c10::Stream& stream) {
  Synchronise(
      LateEvent{.device = stream.device_index(), .stream = stream.id(), .number = kEverything});
}

void DeviceQueues::Synchronise(int device) {
  const std::lock_guard lock(mutex_);
  ++devices_[device].counters.synchronisations;
  for (auto& entry : devices_[device].streams) RunThrough(device, entry.first, kEverything);
  ThrowError(device);
}

size_t DeviceQueues::NumPending(int device) const {
  const std::lock_guard lock(mutex_);
  size_t pending = 0;
  for (const auto& entry : devices_[device].streams) pending += entry.second.size();
  return pending;
}

void DeviceQueues::Count(int device, DeviceCounters* counters) const {
  const std::lock_guard lock(mutex_);
  *counters = devices_[device].counters;
}

void DeviceQueues::AddLaunch(int device) {
  const std::lock_guard lock(mutex_);
  ++devices_[device].counters.launches;
}

void DeviceQueues::AddBytes(int device, bool to_device, size_t size_bytes) {
  const std::lock_guard lock(mutex_);
  DeviceCounters& counters = devices_[device].counters;
  (to_device ? counters.h2d_bytes : counters.d2h_bytes) += static_cast<int64_t>(size_bytes);
}

void* DeviceQueues::AllocatePinned(size_t size_bytes) {
  if (size_bytes == 0) return nullptr;
  const size_t size = (size_bytes + kPinnedAlignment - 1) / kPinnedAlignment * kPinnedAlignment;
  auto* const address = static_cast<char*>(std::aligned_alloc(kPinnedAlignment, size));
  TORCH_CHECK(address != nullptr, "no pinned memory of ", size_bytes, " bytes");
  std::fill_n(address, size, static_cast<char>(kPinnedFill));
  const std::lock_guard lock(mutex_);
  pinned_[address] = size;
  return address;
}

void DeviceQueues::FreePinned(void* address) noexcept {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  pinned_to_free_.insert(static_cast<const char*>(address));
  FreeUnusedPinned();
}

void DeviceQueues::FreeUnusedPinned() noexcept {
  const auto is_used = [this](const MemoryRange& block) {
    for (const Device& device : devices_) {
      for (const auto& entry : device.streams) {
        for (const Task& task : entry.second) {
          if (task.copy && task.copy->host.Meets(block)) return true;
        }
      }
    }
    return false;
  };
  for (auto at = pinned_to_free_.begin(); at != pinned_to_free_.end();) {
    const auto block = pinned_.find(*at);
    if (is_used({block->first, block->second})) {
      ++at;
      continue;
    }
    std::free(const_cast<char*>(block->first));
    pinned_.erase(block);
    at = pinned_to_free_.erase(at);
  }
}

bool DeviceQueues::IsPinned(const void* address) const {
  const std::lock_guard lock(mutex_);
  auto block = pinned_.upper_bound(static_cast<const char*>(address));
  if (block == pinned_.begin()) return false;
  --block;
  return static_cast<const char*>(address) < block->first + block->second;
}

}  // namespace imageddpo
