#pragma once

#include <cstddef>
#include <memory>

namespace imageddpo {

/// A point in a stream. Thread-compatible.
class GpuEvent {
 public:
  virtual ~GpuEvent() = default;
  /// Whether the device has come past it; does not block. @throws CommError  the device failed.
  virtual bool Done() = 0;
};

/// The stream on which a communicator's work is queued. Nothing here waits for the device. All but
/// MarkCaller() is called on the communicator's issuing thread.
/// @throws CommError (kTransport)  the device failed.
class GpuStream {
 public:
  virtual ~GpuStream() = default;

  /// Makes the stream's device the calling thread's.
  virtual void BindThread() = 0;

  /// The stream as NCCL takes it.
  virtual void* handle() const = 0;

  /// A mark in the stream that the calling thread computes on, after all it has queued there.
  virtual std::unique_ptr<GpuEvent> MarkCaller() = 0;

  /// What is queued here from now on starts after `event`, an event of MarkCaller().
  virtual void WaitFor(GpuEvent& event) = 0;

  /// A mark after all that is queued here.
  virtual std::unique_ptr<GpuEvent> Mark() = 0;

  /// Queues a copy within the device.
  virtual void Copy(void* to, const void* from, std::size_t size_bytes) = 0;
};

}  // namespace imageddpo
