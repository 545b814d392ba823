#include "common/comm/nccl/cuda_stream.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "common/comm/nccl/gpu_runtime.h"

namespace imageddpo {
namespace {

static_assert(GpuRuntime::kNotReady == cudaErrorNotReady);

cudaStream_t AsStream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t AsEvent(void* event) { return static_cast<cudaEvent_t>(event); }

int CreateStream(void** stream) {
  int lowest = 0;
  int highest = 0;
  const cudaError_t range = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
  if (range != cudaSuccess) return range;
  cudaStream_t created = nullptr;
  const cudaError_t result = cudaStreamCreateWithPriority(&created, cudaStreamNonBlocking, highest);
  *stream = created;
  return result;
}

int CreateEvent(void** event) {
  cudaEvent_t created = nullptr;
  const cudaError_t result = cudaEventCreateWithFlags(&created, cudaEventDisableTiming);
  *event = created;
  return result;
}

GpuRuntime CudaRuntime() {
  return {.get_device = [](int* device) -> int { return cudaGetDevice(device); },
          .set_device = [](int device) -> int { return cudaSetDevice(device); },
          .create_stream = CreateStream,
          .destroy_stream = [](void* stream) -> int { return cudaStreamDestroy(AsStream(stream)); },
          .create_event = CreateEvent,
          .destroy_event = [](void* event) -> int { return cudaEventDestroy(AsEvent(event)); },
          .record_event = [](void* event, void* stream) -> int {
            return cudaEventRecord(AsEvent(event), AsStream(stream));
          },
          .query_event = [](void* event) -> int { return cudaEventQuery(AsEvent(event)); },
          .wait_event = [](void* stream, void* event) -> int {
            return cudaStreamWaitEvent(AsStream(stream), AsEvent(event), 0);
          },
          .copy = [](void* to, const void* from, std::size_t size_bytes, void* stream) -> int {
            return cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice,
                                   AsStream(stream));
          },
          .current_stream = [](int device) -> void* {
            return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
          },
          .describe = [](int error) -> std::string {
            return cudaGetErrorString(static_cast<cudaError_t>(error));
          }};
}

}  // namespace

std::unique_ptr<GpuStream> MakeCudaStream(at::Device device) {
  return MakeGpuStream(CudaRuntime(), static_cast<int>(device.index()));
}

}  // namespace imageddpo
