#pragma once

#include <cstddef>
#include <memory>

namespace imageddpo {

/// A point in a stream of work on a GPU. Thread-compatible.
class GpuEvent {
 public:
  virtual ~GpuEvent() = default;
  /// Whether the device has reached it; does not block. @throws CommError  the device failed.
  virtual bool Done() = 0;
};

/// The stream on which a communicator queues its work. No call waits for the device. All but
/// MarkCaller() are called on the communicator's issuing thread.
/// @throws CommError (kTransport)  the device failed.
class GpuStream {
 public:
  virtual ~GpuStream() = default;

  /// Makes the stream's device the current device of the calling thread.
  virtual void BindThread() = 0;

  /// The stream, in the form that NCCL takes.
  virtual void* handle() const = 0;

  /// An event in the calling thread's current stream, after all work queued there so far.
  virtual std::unique_ptr<GpuEvent> MarkCaller() = 0;

  /// Work queued in this stream from now on starts after `event`, which MarkCaller() returned.
  virtual void WaitFor(GpuEvent& event) = 0;

  /// An event after all work queued in this stream so far.
  virtual std::unique_ptr<GpuEvent> Mark() = 0;

  /// Queues a copy within the device.
  virtual void Copy(void* to, const void* from, std::size_t size_bytes) = 0;
};

}  // namespace imageddpo
