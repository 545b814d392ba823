#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "tests/testing/device/test_device.h"

namespace imageddpo {

/// Memory of one device: a reserved range of addresses without any access, which tensors hold, and
/// behind it, at a fixed distance, the range with the bytes. Thread-safe.
class DeviceMemory {
 public:
  explicit DeviceMemory(int index);

  /// @return  an address of the range that faults; 512-byte aligned.
  /// @throws c10::OutOfMemoryError
  void* Allocate(size_t size_bytes);
  void Free(void* address) noexcept;

  bool Contains(const void* address) const;
  /// Of the block that starts here.
  size_t SizeOf(const void* address) const;

  size_t SetLimit(size_t limit_bytes);
  size_t limit_bytes() const;
  void FailAllocation(int64_t number);

  /// Fills in the three numbers of memory.
  void Count(DeviceCounters* counters) const;

  /// Where the bytes of an address are that Allocate() gave, or one within its block. Null for
  /// null.
  static void* Bytes(const void* address);

 private:
  const int index_;
  char* begin_ = nullptr;

  mutable std::mutex mutex_;
  size_t limit_bytes_;
  size_t used_bytes_ = 0;                      ///< From begin_; the rest was never handed out.
  std::map<size_t, std::vector<void*>> free_;  ///< By size.
  std::map<const void*, size_t> blocks_;       ///< Sizes of what is held.
  int64_t until_failure_ = 0;                  ///< 0: none.
  DeviceCounters counters_;
};

}  // namespace imageddpo
