#include "common/kernels/gpu/nvrtc.h"

#include <dlfcn.h>

#include <array>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/shared_library.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

/// The calls of nvrtc.h: nvrtcResult is an int, 0 is success, nvrtcProgram a pointer.
struct Nvrtc {
  int (*create)(void** program, const char* source, const char* name, int headers,
                const char* const* header_sources, const char* const* header_names);
  int (*destroy)(void** program);
  int (*compile)(void* program, int options, const char* const* option_texts);
  int (*log_size)(void* program, size_t* size);
  int (*log)(void* program, char* text);
  int (*cubin_size)(void* program, size_t* size);
  int (*cubin)(void* program, char* bytes);
  const char* (*error_text)(int result);
};

absl::StatusOr<Nvrtc> LoadNvrtc() {
  // NVRTC opens its second half by name when it compiles; where it is loaded already, it finds it.
  dlopen("libnvrtc-builtins.so.13.0", RTLD_NOW | RTLD_GLOBAL);
  void* const library = dlopen("libnvrtc.so.13", RTLD_NOW | RTLD_LOCAL);  // Never closed.
  if (library == nullptr) return absl::FailedPreconditionError(absl::StrCat("NVRTC: ", dlerror()));
  Nvrtc nvrtc{};
  if (!FindCall(library, "nvrtcCreateProgram", &nvrtc.create) ||
      !FindCall(library, "nvrtcDestroyProgram", &nvrtc.destroy) ||
      !FindCall(library, "nvrtcCompileProgram", &nvrtc.compile) ||
      !FindCall(library, "nvrtcGetProgramLogSize", &nvrtc.log_size) ||
      !FindCall(library, "nvrtcGetProgramLog", &nvrtc.log) ||
      !FindCall(library, "nvrtcGetCUBINSize", &nvrtc.cubin_size) ||
      !FindCall(library, "nvrtcGetCUBIN", &nvrtc.cubin) ||
      !FindCall(library, "nvrtcGetErrorString", &nvrtc.error_text)) {
    return absl::FailedPreconditionError("NVRTC: libnvrtc.so.13 lacks a function");
  }
  return nvrtc;
}

}  // namespace

absl::StatusOr<std::string> CompileForGpu(const std::string& source, int capability) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Nvrtc nvrtc, LoadNvrtc());
  void* program = nullptr;
  if (const int result =
          nvrtc.create(&program, source.c_str(), "imageddpo.cu", 0, nullptr, nullptr);
      result != 0) {
    return absl::InternalError(absl::StrCat("NVRTC: ", nvrtc.error_text(result)));
  }
  const absl::Cleanup destroy = [&] { nvrtc.destroy(&program); };
  const std::string architecture = absl::StrCat("--gpu-architecture=sm_", capability);
  const std::array<const char*, 2> options = {architecture.c_str(), "--std=c++17"};
  const int result = nvrtc.compile(program, static_cast<int>(options.size()), options.data());
  size_t size = 0;
  if (result != 0) {
    std::string log;
    if (nvrtc.log_size(program, &size) == 0) {
      log.resize(size);
      nvrtc.log(program, log.data());
    }
    return absl::InvalidArgumentError(absl::StrCat("NVRTC, for compute capability ", capability,
                                                   ": ", nvrtc.error_text(result), "\n",
                                                   log.c_str()));
  }
  std::string cubin;
  if (nvrtc.cubin_size(program, &size) == 0) {
    cubin.resize(size);
    if (nvrtc.cubin(program, cubin.data()) == 0 && !cubin.empty()) return cubin;
  }
  return absl::InternalError(
      absl::StrCat("NVRTC gave no machine code for compute capability ", capability));
}

}  // namespace imageddpo
