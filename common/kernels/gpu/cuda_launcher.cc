#include "common/kernels/gpu/cuda_launcher.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/shared_library.h"
#include "common/base/status.h"
#include "common/kernels/gpu/kernel_sources.h"
#include "common/kernels/gpu/nvrtc.h"

namespace imageddpo {
namespace {

absl::Status DriverError(const CudaDriver& driver, const std::string& what, int error) {
  return absl::InternalError(
      absl::StrCat(what, ": NVIDIA's driver says ", driver.error_text(error)));
}

void* CurrentStream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

}  // namespace

std::optional<CudaDriver> LoadCudaDriver() {
  // Never closed: libtorch uses the same library. The types are those of cuda.h: CUresult and
  // CUdevice are int, the handles are pointers.
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return std::nullopt;
  int (*init)(unsigned) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*retain)(void**, int) = nullptr;
  int (*current)(void**) = nullptr;
  int (*make_current)(void*) = nullptr;
  int (*load)(void**, const void*) = nullptr;
  int (*find)(void**, void*, const char*) = nullptr;
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                void**, void**) = nullptr;
  int (*error_name)(int, const char**) = nullptr;
  if (!FindCall(library, "cuInit", &init) || !FindCall(library, "cuDeviceGet", &get) ||
      !FindCall(library, "cuDeviceGetAttribute", &attribute) ||
      !FindCall(library, "cuDevicePrimaryCtxRetain", &retain) ||
      !FindCall(library, "cuCtxGetCurrent", &current) ||
      !FindCall(library, "cuCtxSetCurrent", &make_current) ||
      !FindCall(library, "cuModuleLoadData", &load) ||
      !FindCall(library, "cuModuleGetFunction", &find) ||
      !FindCall(library, "cuLaunchKernel", &launch) ||
      !FindCall(library, "cuGetErrorName", &error_name) || init(0) != 0) {
    return std::nullopt;
  }
  return CudaDriver{
      .capability =
          [=](int ordinal, int* major, int* minor) {
            constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
            int device = 0;
            if (const int error = get(&device, ordinal); error != 0) return error;
            if (const int error = attribute(major, kMajor, device); error != 0) return error;
            return attribute(minor, kMinor, device);
          },
      .primary_context =
          [=](int ordinal, void** context) {
            int device = 0;
            const int error = get(&device, ordinal);
            return error != 0 ? error : retain(context, device);
          },
      .current_context = current,
      .make_current = make_current,
      .load = [=](const void* cubin, void** module) { return load(module, cubin); },
      .find = [=](void* module, const char* name,
                  void** function) { return find(function, module, name); },
      .launch =
          [=](void* function, const GpuLaunch& what, void* stream) {
            return launch(function, what.blocks[0], what.blocks[1], 1, what.threads, 1, 1,
                          /*shared bytes=*/0, stream, what.arguments, nullptr);
          },
      .error_text =
          [=](int error) {
            const char* name = nullptr;
            return error_name(error, &name) == 0 ? std::string(name) : absl::StrCat(error);
          },
      .stream = CurrentStream};
}

int CudaLauncher::MakeCurrent() const {
  void* current = nullptr;
  if (const int error = driver_.current_context(&current); error != 0) return error;
  return current == context_ ? 0 : driver_.make_current(context_);
}

absl::StatusOr<std::unique_ptr<CudaLauncher>> CudaLauncher::Create(
    at::Device device, CudaDriver driver,
    const std::function<absl::StatusOr<std::string>(const std::string& source, int capability)>&
        compile) {
  std::unique_ptr<CudaLauncher> launcher(new CudaLauncher(device, std::move(driver)));
  const CudaDriver& calls = launcher->driver_;
  int major = 0, minor = 0;
  if (const int error = calls.capability(device.index(), &major, &minor); error != 0) {
    return DriverError(calls, absl::StrCat("asked about ", device.str()), error);
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string cubin,
                             compile(GpuKernelSource(), 10 * major + minor));
  if (const int error = calls.primary_context(device.index(), &launcher->context_); error != 0) {
    return DriverError(calls, absl::StrCat("the context of ", device.str()), error);
  }
  if (const int error = launcher->MakeCurrent(); error != 0) {
    return DriverError(calls, absl::StrCat("the context of ", device.str()), error);
  }
  void* module = nullptr;  // Stays loaded as long as the process.
  if (const int error = calls.load(cubin.data(), &module); error != 0) {
    return DriverError(calls, "the kernels cannot be loaded", error);
  }
  for (const char* name : GpuKernelNames()) {
    if (const int error = calls.find(module, name, &launcher->functions_[name]); error != 0) {
      return DriverError(calls, absl::StrCat("the kernel ", name, " is not found"), error);
    }
  }
  return launcher;
}

void CudaLauncher::Launch(at::Device device, const GpuLaunch& launch) {
  int error = MakeCurrent();
  if (error == 0) {
    error = driver_.launch(functions_.at(launch.kernel), launch, driver_.stream(device));
  }
  if (error != 0) {
    throw std::runtime_error(absl::StrCat("the kernel ", launch.kernel, " cannot be launched on ",
                                          device.str(), ": NVIDIA's driver says ",
                                          driver_.error_text(error)));
  }
}

absl::StatusOr<std::shared_ptr<const FusedKernels>> FusedKernelsOn(at::Device device) {
  if (!device.is_cuda()) return std::shared_ptr<const FusedKernels>();
  static absl::Mutex mutex(absl::kConstInit);
  // Never freed: the driver may have ended when a process's static objects are destroyed.
  static auto& made = *new std::map<int, std::shared_ptr<const FusedKernels>>;
  const absl::MutexLock lock(&mutex);
  std::shared_ptr<const FusedKernels>& kernels = made[device.index()];
  if (kernels != nullptr) return kernels;
  std::optional<CudaDriver> driver = LoadCudaDriver();
  if (!driver) return absl::FailedPreconditionError("there is no driver of NVIDIA on this host");
  IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<CudaLauncher> launcher,
                             CudaLauncher::Create(device, *std::move(driver), CompileForGpu));
  kernels = std::make_shared<const FusedKernels>(std::move(launcher));
  return kernels;
}

}  // namespace imageddpo
