#include "common/kernels/gpu/kernel_sources.h"

namespace imageddpo {
namespace {

constexpr const char* kKernelNames[] = {
    "geglu_f32",       "geglu_bf16",       "group_moments_f32", "group_moments_bf16",
    "group_apply_f32", "group_apply_bf16", "lora_down_f32",     "lora_down_bf16",
};

}  // namespace

std::string GpuKernelSource() {
  std::string source;
  for (const EmbeddedFile& file : GpuKernelFiles()) source.append(file.bytes);
  return source;
}

absl::Span<const char* const> GpuKernelNames() { return kKernelNames; }

}  // namespace imageddpo
