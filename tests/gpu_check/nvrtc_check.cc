// nvrtc_check: compiles the kernels of common/kernels/gpu with NVRTC for each kind of GPU that we
// name, which needs no GPU. Prints what each took; ends with 1 where one was not compiled.

#include <chrono>
#include <iostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/kernels/gpu/kernel_sources.h"
#include "common/kernels/gpu/nvrtc.h"

namespace imageddpo {
namespace {

constexpr int kCapabilities[] = {80, 90};  // A100; H100, H200.

bool Compiles(int capability) {
  const auto started = std::chrono::steady_clock::now();
  const absl::StatusOr<std::string> cubin = CompileForGpu(GpuKernelSource(), capability);
  if (!cubin.ok()) {
    std::cerr << "nvrtc_check: " << cubin.status() << "\n";
    return false;
  }
  for (const char* name : GpuKernelNames()) {
    if (cubin->find(name) == std::string::npos) {
      std::cerr << "nvrtc_check: sm_" << capability << " has no kernel " << name << "\n";
      return false;
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  std::cout << "sm_" << capability << ": " << GpuKernelNames().size() << " kernels, "
            << cubin->size() << " bytes, " << seconds.count() << " s\n";
  return true;
}

}  // namespace
}  // namespace imageddpo

int main() {
  bool all = true;
  for (const int capability : imageddpo::kCapabilities) {
    all = imageddpo::Compiles(capability) && all;
  }
  return all ? 0 : 1;
}
