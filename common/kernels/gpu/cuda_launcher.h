#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/kernels/gpu/fused_kernels.h"
#include "common/kernels/gpu/gpu_launcher.h"

namespace imageddpo {

/// The calls of NVIDIA's driver that load and launch kernels, as a table, so that a test can answer
/// them. All return 0 or the driver's number of an error; contexts, modules, functions and streams
/// are its handles.
struct CudaDriver {
  std::function<int(int ordinal, int* major, int* minor)> capability;
  /// The context of a device that libtorch uses too ("primary"). Makes none current.
  std::function<int(int ordinal, void** context)> primary_context;
  std::function<int(void** context)> current_context;  ///< Of this thread.
  std::function<int(void* context)> make_current;
  std::function<int(const void* cubin, void** module)> load;
  std::function<int(void* module, const char* name, void** function)> find;
  std::function<int(void* function, const GpuLaunch& launch, void* stream)> launch;
  std::function<std::string(int error)> error_text;
  std::function<void*(at::Device)> stream;  ///< libtorch's current one.
};

/// The driver of this host; not set: there is none.
std::optional<CudaDriver> LoadCudaDriver();

/// Launches the kernels on one GPU. Thread-safe.
class CudaLauncher : public GpuLauncher {
 public:
  /// Compiles all kernels for that GPU, which takes about a second, and loads them.
  /// @param compile  as CompileForGpu().
  /// @return FAILED_PRECONDITION or INTERNAL naming what the driver or the compiler says.
  static absl::StatusOr<std::unique_ptr<CudaLauncher>> Create(
      at::Device device, CudaDriver driver,
      const std::function<absl::StatusOr<std::string>(const std::string& source, int capability)>&
          compile);

  bool Reaches(at::Device device) const override { return device == device_; }
  void Launch(at::Device device, const GpuLaunch& launch) override;

 private:
  CudaLauncher(at::Device device, CudaDriver driver)
      : device_(device), driver_(std::move(driver)) {}

  /// On a thread that has not used the GPU yet there is no current context, else it is this one.
  int MakeCurrent() const;

  const at::Device device_;
  const CudaDriver driver_;
  void* context_ = nullptr;
  std::map<std::string, void*> functions_;
};

/// The kernels on a GPU with this host's driver and compiler, made once in a process and shared by
/// its jobs; null on a CPU, which has none. Thread-safe. @param device  one of CUDA with its index.
absl::StatusOr<std::shared_ptr<const FusedKernels>> FusedKernelsOn(at::Device device);

}  // namespace imageddpo
