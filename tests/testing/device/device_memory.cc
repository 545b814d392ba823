#include "tests/testing/device/device_memory.h"

#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace imageddpo {
namespace {

constexpr size_t kGiB = size_t{1} << 30;
constexpr size_t kSpaceBytes = 16 * kGiB;  // Addresses; pages come with the first use.
constexpr size_t kAlignment = 512;
constexpr int kFill = 0xFF;  // NaN in float32, bfloat16 and float64; -1 as an integer.

}  // namespace

DeviceMemory::DeviceMemory(int index) : index_(index), limit_bytes_(4 * kGiB) {
  void* const range = ::mmap(nullptr, 2 * kSpaceBytes, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(range != MAP_FAILED, "no address space for a test device");
  begin_ = static_cast<char*>(range);
  TORCH_CHECK(::mprotect(begin_ + kSpaceBytes, kSpaceBytes, PROT_READ | PROT_WRITE) == 0,
              "no memory for a test device");
}

void* DeviceMemory::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return nullptr;
  const size_t size = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::lock_guard lock(mutex_);
  ++counters_.allocations;
  const bool fails = until_failure_ > 0 && --until_failure_ == 0;
  const auto held = static_cast<size_t>(counters_.allocated_bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, !fails && held + size <= limit_bytes_, kTestDeviceName, ":",
                   index_, " out of memory: tried to allocate ", size_bytes, " bytes of ",
                   limit_bytes_, ", ", held, " are in use");
  auto& same_size = free_[size];
  void* address = nullptr;
  if (!same_size.empty()) {
    address = same_size.back();
    same_size.pop_back();
  } else {
    TORCH_CHECK_WITH(OutOfMemoryError, used_bytes_ + size <= kSpaceBytes,
                     "the test device's addresses are used up");
    address = begin_ + used_bytes_;
    used_bytes_ += size;
  }
  blocks_[address] = size;
  counters_.allocated_bytes += static_cast<int64_t>(size);
  counters_.most_allocated_bytes =
      std::max(counters_.most_allocated_bytes, counters_.allocated_bytes);
  std::memset(Bytes(address), kFill, size);
  return address;
}

void DeviceMemory::Free(void* address) noexcept {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(address);
  free_[block->second].push_back(address);
  counters_.allocated_bytes -= static_cast<int64_t>(block->second);
  blocks_.erase(block);
}

bool DeviceMemory::Contains(const void* address) const {
  const auto* const at = static_cast<const char*>(address);
  return at >= begin_ && at < begin_ + kSpaceBytes;
}

size_t DeviceMemory::SizeOf(const void* address) const {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(address);
  return block == blocks_.end() ? 0 : block->second;
}

size_t DeviceMemory::SetLimit(size_t limit_bytes) {
  const std::lock_guard lock(mutex_);
  return std::exchange(limit_bytes_, limit_bytes);
}

size_t DeviceMemory::limit_bytes() const {
  const std::lock_guard lock(mutex_);
  return limit_bytes_;
}

void DeviceMemory::FailAllocation(int64_t number) {
  const std::lock_guard lock(mutex_);
  until_failure_ = number;
}

void DeviceMemory::Count(DeviceCounters* counters) const {
  const std::lock_guard lock(mutex_);
  counters->allocations = counters_.allocations;
  counters->allocated_bytes = counters_.allocated_bytes;
  counters->most_allocated_bytes = counters_.most_allocated_bytes;
}

void* DeviceMemory::Bytes(const void* address) {
  if (address == nullptr) return nullptr;
  return const_cast<char*>(static_cast<const char*>(address)) + kSpaceBytes;
}

}  // namespace imageddpo
