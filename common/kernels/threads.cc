#include "common/kernels/threads.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <atomic>

namespace imageddpo {

void UseThreads(int64_t num_threads) {
  at::set_num_threads(1);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor ones = at::ones({16, 16}, type);
    at::matmul(at::exp(ones), ones);
  }
  at::set_num_threads(static_cast<int>(num_threads));
}

void ParallelFor(int64_t count, const std::function<void(int64_t begin, int64_t end)>& task) {
  // Several parts per thread; each is taken by the next free thread, because the cores of a shared
  // machine are seldom equally fast.
  constexpr int64_t kPartsPerThread = 8;
  const int64_t threads = std::min(ThreadCount(), count);
  if (threads < 2 || at::in_parallel_region()) {
    if (count > 0) task(0, count);
    return;
  }
  const int64_t part = (count + threads * kPartsPerThread - 1) / (threads * kPartsPerThread);
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, threads, /*grain_size=*/1, [&](int64_t /*begin*/, int64_t /*end*/) {
    for (int64_t begin = next.fetch_add(part); begin < count; begin = next.fetch_add(part)) {
      task(begin, std::min(begin + part, count));
    }
  });
}

int64_t ThreadIndex() { return at::get_thread_num(); }

int64_t ThreadCount() { return at::get_num_threads(); }

}  // namespace imageddpo
