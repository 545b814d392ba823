#pragma once

#include <cstdint>
#include <cstring>

#include "common/kernels/processor.h"

// Vectors of 16 floats for the inner loops of our kernels, held in the widest registers that the
// x86-64 processor has. To be included only by .cc files compiled with the options of
// KERNEL_SOURCES.

#define IMAGEDDPO_INLINE [[gnu::always_inline]] inline

namespace imageddpo {

constexpr int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64)]] = float;
using IntLanes [[gnu::vector_size(64)]] = int32_t;

IMAGEDDPO_INLINE Lanes LoadLanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

IMAGEDDPO_INLINE void StoreLanes(const Lanes& lanes, float* to) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

/// A kernel is compiled once for each kind of processor, so its operator() and everything that it
/// calls must be IMAGEDDPO_INLINE.
template <class Kernel>
void RunBaseline(const Kernel& kernel) {
  kernel();
}

template <class Kernel>
[[gnu::target("avx2,fma")]] void RunAvx2(const Kernel& kernel) {
  kernel();
}

template <class Kernel>
[[gnu::target("avx512f,avx512dq,avx512vl,avx2,fma")]] void RunAvx512(const Kernel& kernel) {
  kernel();
}

/// Runs the variant of a kernel for WidestVectors(). Every call of a process gives the same bits.
template <class Kernel>
void RunKernel(const Kernel& kernel) {
  switch (WidestVectors()) {
    case VectorKind::kAvx512:
      return RunAvx512<Kernel>(kernel);
    case VectorKind::kAvx2:
      return RunAvx2<Kernel>(kernel);
    case VectorKind::kBaseline:
      return RunBaseline<Kernel>(kernel);
  }
}

}  // namespace imageddpo
