#include "common/kernels/workspace.h"

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace imageddpo {
namespace {

constexpr size_t kPage = size_t{2} << 20;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  size_t size = 0;
};

}  // namespace

void* ThreadWorkspace(size_t bytes) {
  thread_local Block block;
  const size_t size = (bytes + kPage - 1) / kPage * kPage;
  if (size > block.size) {
    block = {};
    block.memory.reset(std::aligned_alloc(kPage, size));
    if (block.memory == nullptr) throw std::bad_alloc();
    madvise(block.memory.get(), size, MADV_HUGEPAGE);  // Only makes it faster.
    block.size = size;
  }
  return block.memory.get();
}

}  // namespace imageddpo
