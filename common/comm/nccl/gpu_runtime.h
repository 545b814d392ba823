#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "common/comm/nccl/gpu_stream.h"

namespace imageddpo {

/// The calls of CUDA's runtime that a communicator's stream needs, as a table, so that the stream
/// is built and tested without a GPU. MakeCudaStream() (cuda_stream.h) fills it with the real ones.
/// As there, each thread has a current device, and all but `current_stream` and `describe` return 0
/// or CUDA's number of an error. Streams and events are opaque.
struct GpuRuntime {
  static constexpr int kNotReady = 600;  ///< cudaErrorNotReady.

  std::function<int(int* device)> get_device;
  /// Makes a device the calling thread's, and a context on it (some 500 MB) where the process has
  /// none: so only a rank's own device may ever be set.
  std::function<int(int device)> set_device;

  /// Of the current device: the highest priority, not waiting for the default stream.
  std::function<int(void** stream)> create_stream;
  std::function<int(void* stream)> destroy_stream;
  std::function<int(void** event)> create_event;  ///< Of the current device, without timing.
  std::function<int(void* event)> destroy_event;
  std::function<int(void* event, void* stream)> record_event;
  std::function<int(void* event)> query_event;  ///< 0: done. kNotReady: not yet.
  std::function<int(void* stream, void* event)> wait_event;
  std::function<int(void* to, const void* from, std::size_t size_bytes, void* stream)> copy;

  std::function<void*(int device)> current_stream;  ///< libtorch's, of the calling thread.
  std::function<std::string(int error)> describe;
};

/// A stream of a device, over the table. Sets no device but `device`, and that at most once on each
/// thread: it stays the thread's current device, since setting another one back would make a
/// context there.
/// @throws CommError  the device cannot be used.
std::unique_ptr<GpuStream> MakeGpuStream(GpuRuntime runtime, int device);

}  // namespace imageddpo
