#include "common/comm/nccl/cuda_stream.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "absl/strings/str_cat.h"
#include "common/comm/communicator.h"

namespace imageddpo {
namespace {

void Check(cudaError_t result, const char* what) {
  if (result != cudaSuccess) {
    throw CommError(CommError::Kind::kTransport,
                    absl::StrCat(what, ": ", cudaGetErrorString(result)));
  }
}

/// Makes a device the thread's current one during its lifetime.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    Check(cudaGetDevice(&before_), "cudaGetDevice");
    Check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

class CudaEvent : public GpuEvent {
 public:
  CudaEvent(cudaStream_t stream, int device) {
    const DeviceScope scope(device);
    Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
    Check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  bool Done() override {
    const cudaError_t result = cudaEventQuery(event_);
    if (result == cudaErrorNotReady) {
      return false;
    }
    Check(result, "cudaEventQuery");
    return true;
  }

  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaStream : public GpuStream {
 public:
  explicit CudaStream(int device) : device_(device) {
    const DeviceScope scope(device);
    int lowest = 0;
    int highest = 0;
    Check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    Check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, highest),
          "cudaStreamCreate");
  }
  ~CudaStream() override { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void BindThread() override { Check(cudaSetDevice(device_), "cudaSetDevice"); }

  void* handle() const override { return stream_; }

  std::unique_ptr<GpuEvent> MarkCaller() override {
    const auto current =
        c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device_)).stream();
    return std::make_unique<CudaEvent>(current, device_);
  }

  void WaitFor(GpuEvent& event) override {
    Check(cudaStreamWaitEvent(stream_, static_cast<CudaEvent&>(event).get(), 0),
          "cudaStreamWaitEvent");
  }

  std::unique_ptr<GpuEvent> Mark() override {
    return std::make_unique<CudaEvent>(stream_, device_);
  }

  void Copy(void* to, const void* from, std::size_t size_bytes) override {
    Check(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice, stream_),
          "cudaMemcpyAsync");
  }

 private:
  const int device_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<GpuStream> MakeCudaStream(at::Device device) {
  return std::make_unique<CudaStream>(static_cast<int>(device.index()));
}

}  // namespace imageddpo
