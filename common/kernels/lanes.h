#pragma once

#include <cstdint>
#include <cstring>

#include "common/kernels/processor.h"

// What inner loops of our own are written in: vectors of 16 floats, in registers as wide as the
// processor at hand has, an x86-64 one as for all that this links. For .cc files that are compiled
// with the options of KERNEL_SOURCES.

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

/// Everything that `kernel()` calls must be IMAGEDDPO_INLINE, as must its operator() itself: it is
/// compiled once for each kind of processor.
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

/// Runs a kernel as compiled for WidestVectors(). The same bits at every call of a process.
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
