#include "tests/testing/gpu/emulated_gpu.h"

#include <math.h>  // expf, erff, sqrtf, as the kernels call them
#include <ucontext.h>

#include <bit>
#include <cstring>
#include <functional>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

namespace imageddpo {
namespace emulated {

/// The threads of one block, taking turns on one thread of the host: each goes on until it waits
/// for the others or ends. (256 threads of the host would spend their time waiting for each other.)
class Block {
 public:
  explicit Block(unsigned threads) : stacks_(threads), contexts_(threads), ended_(threads) {
    for (auto& stack : stacks_) stack.resize(kStackBytes);
  }

  /// @param body  called in each thread. @param turn  called before a thread goes on, with its
  /// number.
  void Run(const std::function<void()>& body, const std::function<void(unsigned)>& turn) {
    body_ = &body;
    running_ = this;
    for (unsigned thread = 0; thread < contexts_.size(); ++thread) {
      ended_[thread] = false;
      ::getcontext(&contexts_[thread]);
      contexts_[thread].uc_stack.ss_sp = stacks_[thread].data();
      contexts_[thread].uc_stack.ss_size = stacks_[thread].size();
      contexts_[thread].uc_link = &scheduler_;
      ::makecontext(&contexts_[thread], &Block::Enter, 0);
    }
    for (bool is_left = true; is_left;) {
      is_left = false;
      for (unsigned thread = 0; thread < contexts_.size(); ++thread) {
        if (ended_[thread]) continue;
        current_ = thread;
        turn(thread);
        ::swapcontext(&scheduler_, &contexts_[thread]);
        is_left = is_left || !ended_[thread];
      }
    }
  }

  /// Until all threads of the block have come so far.
  static void Wait() {
    ::swapcontext(&running_->contexts_[running_->current_], &running_->scheduler_);
  }

 private:
  static constexpr size_t kStackBytes = 64 << 10;

  static void Enter() {
    (*running_->body_)();
    running_->ended_[running_->current_] = true;
  }

  static inline Block* running_ = nullptr;
  std::vector<std::vector<char>> stacks_;
  std::vector<ucontext_t> contexts_;
  std::vector<char> ended_;
  ucontext_t scheduler_ = {};
  unsigned current_ = 0;
  const std::function<void()>* body_ = nullptr;
};

// The words of CUDA C++ that the kernels use. Blocks run one after the other, so what the threads
// of a block share is a static variable.
struct Index {
  unsigned x = 0, y = 0;
};
Index blockIdx, threadIdx, blockDim, gridDim;
void __syncthreads() { Block::Wait(); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

#define __global__
#define __device__
#define __shared__ static
// In the order in which they are compiled.
// clang-format off
#include "common/kernels/gpu/sizes.cu.h"
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
  Block block(launch.threads);
  blockDim = {launch.threads, 1};
  gridDim = {launch.blocks[0], launch.blocks[1]};
  for (unsigned y = 0; y < launch.blocks[1]; ++y) {
    for (unsigned x = 0; x < launch.blocks[0]; ++x) {
      block.Run(call, [&](unsigned thread) {
        blockIdx = {x, y};
        threadIdx = {thread, 0};
      });
    }
  }
}

}  // namespace emulated

void EmulatedGpu::Launch(at::Device, const GpuLaunch& launch) {
  static std::mutex one_at_a_time;  // The shared memory is that of all launches.
  const std::lock_guard lock(one_at_a_time);
  emulated::RunGrid(launch, emulated::Kernels().at(launch.kernel)(launch.arguments));
  if (counts_) ++(*counts_)[launch.kernel];
}

}  // namespace imageddpo
