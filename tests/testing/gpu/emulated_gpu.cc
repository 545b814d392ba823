#include "tests/testing/gpu/emulated_gpu.h"

#include <math.h>  // expf, erff, sqrtf, as the kernels call them

#include <bit>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace imageddpo {
namespace emulated {

/// Of the threads of one block: each waits until all are there.
class Barrier {
 public:
  explicit Barrier(unsigned threads) : threads_(threads) {}

  void Wait() {
    std::unique_lock lock(mutex_);
    const unsigned round = round_;
    if (++waiting_ == threads_) {
      waiting_ = 0;
      ++round_;
      all_there_.notify_all();
    } else {
      all_there_.wait(lock, [&] { return round_ != round; });
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_there_;
  const unsigned threads_;
  unsigned waiting_ = 0, round_ = 0;
};

// The words of CUDA C++ that the kernels use. Blocks run one after the other, so what the threads
// of a block share is a static variable.
struct Index {
  unsigned x = 0, y = 0;
};
thread_local Index blockIdx, threadIdx, blockDim, gridDim;
thread_local Barrier* of_block = nullptr;
void __syncthreads() { of_block->Wait(); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

#define __global__
#define __device__
#define __shared__ static
// clang-format off: in the order in which they are compiled.
#include "common/kernels/gpu/element.cu.h"
#include "common/kernels/gpu/geglu.cu.h"
#include "common/kernels/gpu/group_norm.cu.h"
#include "common/kernels/gpu/lora_down.cu.h"
// clang-format on
#undef __global__
#undef __device__
#undef __shared__

/// A call of a kernel with the arguments that a launch points to.
using Call = std::function<void()>;

template <typename Argument>
Argument ReadArgument(const void* address) {
  Argument argument;
  std::memcpy(&argument, address, sizeof(argument));
  return argument;
}

template <typename... Arguments>
std::function<Call(void**)> Callable(void (*kernel)(Arguments...)) {
  return [kernel](void** addresses) -> Call {
    return [&]<size_t... i>(std::index_sequence<i...>)->Call {
      return [kernel, values = std::tuple<Arguments...>(ReadArgument<Arguments>(addresses[i])...)] {
        std::apply(kernel, values);
      };
    }
    (std::index_sequence_for<Arguments...>());
  };
}

const std::map<std::string, std::function<Call(void**)>>& Kernels() {
  static const auto* const kernels = new std::map<std::string, std::function<Call(void**)>>{
      {"geglu_f32", Callable(geglu_f32)},
      {"geglu_bf16", Callable(geglu_bf16)},
      {"group_moments_f32", Callable(group_moments_f32)},
      {"group_moments_bf16", Callable(group_moments_bf16)},
      {"group_apply_f32", Callable(group_apply_f32)},
      {"group_apply_bf16", Callable(group_apply_bf16)},
      {"lora_down_f32", Callable(lora_down_f32)},
      {"lora_down_bf16", Callable(lora_down_bf16)},
  };
  return *kernels;
}

void RunGrid(const GpuLaunch& launch, const Call& call) {
  Barrier barrier(launch.threads);
  std::vector<std::thread> threads;
  threads.reserve(launch.threads);
  for (unsigned thread = 0; thread < launch.threads; ++thread) {
    threads.emplace_back([&, thread] {
      of_block = &barrier;
      threadIdx = {thread, 0};
      blockDim = {launch.threads, 1};
      gridDim = {launch.blocks[0], launch.blocks[1]};
      for (unsigned y = 0; y < launch.blocks[1]; ++y) {
        for (unsigned x = 0; x < launch.blocks[0]; ++x) {
          blockIdx = {x, y};
          call();
          barrier.Wait();  // The next block uses the same shared memory.
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace emulated

void EmulatedGpu::Launch(at::Device, const GpuLaunch& launch) {
  static std::mutex one_at_a_time;  // The shared memory is that of all launches.
  const std::lock_guard lock(one_at_a_time);
  emulated::RunGrid(launch, emulated::Kernels().at(launch.kernel)(launch.arguments));
  if (counts_) ++(*counts_)[launch.kernel];
}

}  // namespace imageddpo
