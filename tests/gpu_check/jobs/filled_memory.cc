#include "tests/gpu_check/jobs/filled_memory.h"

#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstdint>

namespace imageddpo {
namespace {

constexpr int64_t kLargestPiece = int64_t{1} << 32;
constexpr int64_t kSmallestPiece = int64_t{1} << 12;
constexpr size_t kRefusedBytes = 256;  // A matrix of the demo's LoRA has more.

/// libtorch's allocator of the CPU, which refuses while it is told to. Replaces it for the rest of
/// the process, because blocks may outlive the one that asked for them.
class RefusingAllocator : public at::Allocator {
 public:
  static RefusingAllocator& Install() {
    static auto* const allocator = new RefusingAllocator();
    return *allocator;
  }

  void set_refuses(bool refuses) { refuses_ = refuses; }

  at::DataPtr allocate(size_t size) override {
    TORCH_CHECK_WITH(OutOfMemoryError, !refuses_ || size < kRefusedBytes,
                     "out of memory: tried to allocate ", size, " bytes while none are left");
    return base_->allocate(size);
  }
  at::DeleterFnPtr raw_deleter() const override { return base_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

 private:
  RefusingAllocator() : base_(c10::GetCPUAllocator()) {
    constexpr uint8_t kPriority = 100;
    c10::SetCPUAllocator(this, kPriority);
  }

  at::Allocator* const base_;
  std::atomic<bool> refuses_{false};
};

}  // namespace

FilledMemory::FilledMemory(at::Device device) : device_(device) {
  if (device_.is_cpu()) {
    RefusingAllocator::Install().set_refuses(true);
    return;
  }
  c10::getDeviceAllocator(device_.type())->emptyCache();
  const auto bytes = at::TensorOptions().dtype(at::kByte).device(device_);
  for (int64_t piece = kLargestPiece; piece >= kSmallestPiece;) {
    try {
      held_.push_back(at::empty({piece}, bytes));
    } catch (const c10::OutOfMemoryError&) {
      piece /= 2;
    }
  }
}

FilledMemory::~FilledMemory() {
  if (device_.is_cpu()) {
    RefusingAllocator::Install().set_refuses(false);
    return;
  }
  held_.clear();
  c10::getDeviceAllocator(device_.type())->emptyCache();
}

}  // namespace imageddpo
