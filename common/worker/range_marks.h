#pragma once

#include <c10/core/Device.h>

namespace imageddpo {

/// Told when a stage of a rank begins and ends, for a profiler of the device that shows them beside
/// its kernels. Ranges of a thread are nested. Thread-safe.
class RangeMarks {
 public:
  virtual ~RangeMarks() = default;
  /// @param name  lives for ever.
  virtual void Begin(const char* name) const = 0;
  /// The range that began last on this thread.
  virtual void End() const = 0;
};

/// NVTX ranges, which Nsight Systems and Nsight Compute show; libtorch's CUDA half writes them, and
/// they cost next to nothing while no profiler listens. Null: the device is no GPU, or libtorch has
/// no CUDA.
const RangeMarks* RangeMarksOf(at::Device device);

}  // namespace imageddpo
