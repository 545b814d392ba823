#include "common/comm/nccl/gpu_runtime.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/comm/communicator.h"

namespace imageddpo {
namespace {

void CheckCall(const GpuRuntime& runtime, int result, const char* what) {
  if (result == 0) return;
  throw CommError(CommError::Kind::kTransport, absl::StrCat(what, ": ", runtime.describe(result)));
}

void UseDevice(const GpuRuntime& runtime, int device) {
  int current = -1;
  CheckCall(runtime, runtime.get_device(&current), "the thread's device");
  if (current != device) CheckCall(runtime, runtime.set_device(device), "setting the device");
}

using SharedRuntime = std::shared_ptr<const GpuRuntime>;

class TableEvent : public GpuEvent {
 public:
  TableEvent(SharedRuntime runtime, void* stream, int device) : runtime_(std::move(runtime)) {
    UseDevice(*runtime_, device);
    CheckCall(*runtime_, runtime_->create_event(&event_), "making an event");
    const int recorded = runtime_->record_event(event_, stream);
    if (recorded == 0) return;
    runtime_->destroy_event(event_);
    CheckCall(*runtime_, recorded, "recording an event");
  }
  ~TableEvent() override { runtime_->destroy_event(event_); }
  TableEvent(const TableEvent&) = delete;
  TableEvent& operator=(const TableEvent&) = delete;

  bool Done() override {
    const int result = runtime_->query_event(event_);
    if (result == GpuRuntime::kNotReady) return false;
    CheckCall(*runtime_, result, "asking for an event");
    return true;
  }

  void* get() const { return event_; }

 private:
  const SharedRuntime runtime_;
  void* event_ = nullptr;
};

class TableStream : public GpuStream {
 public:
  TableStream(GpuRuntime runtime, int device)
      : runtime_(std::make_shared<GpuRuntime>(std::move(runtime))), device_(device) {
    UseDevice(*runtime_, device_);
    CheckCall(*runtime_, runtime_->create_stream(&stream_), "making a stream");
  }
  ~TableStream() override { runtime_->destroy_stream(stream_); }
  TableStream(const TableStream&) = delete;
  TableStream& operator=(const TableStream&) = delete;

  void BindThread() override { UseDevice(*runtime_, device_); }

  void* handle() const override { return stream_; }

  std::unique_ptr<GpuEvent> MarkCaller() override {
    return std::make_unique<TableEvent>(runtime_, runtime_->current_stream(device_), device_);
  }

  void WaitFor(GpuEvent& event) override {
    CheckCall(*runtime_, runtime_->wait_event(stream_, static_cast<TableEvent&>(event).get()),
              "waiting for an event");
  }

  std::unique_ptr<GpuEvent> Mark() override {
    return std::make_unique<TableEvent>(runtime_, stream_, device_);
  }

  void Copy(void* to, const void* from, std::size_t size_bytes) override {
    CheckCall(*runtime_, runtime_->copy(to, from, size_bytes, stream_), "copying on the device");
  }

 private:
  const SharedRuntime runtime_;
  const int device_;
  void* stream_ = nullptr;
};

}  // namespace

std::unique_ptr<GpuStream> MakeGpuStream(GpuRuntime runtime, int device) {
  return std::make_unique<TableStream>(std::move(runtime), device);
}

}  // namespace imageddpo
