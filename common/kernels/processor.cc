#include "common/kernels/processor.h"

#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace imageddpo {
namespace {

/// ONEDNN_MAX_CPU_ISA limits the instructions of oneDNN, which computes libtorch's products.
bool MayUseMatrixUnits() {
  for (const char* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"}) {
    const char* const value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string most = absl::AsciiStrToUpper(value);
    return absl::StrContains(most, "AMX") || most == "DEFAULT";
  }
  return true;
}

/// libtorch's own setting, spelt as libtorch reads it.
VectorKind MayUseVectors() {
  const char* const value = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string most = value == nullptr ? "" : value;
  if (most == "default") return VectorKind::kBaseline;
  return most == "avx2" ? VectorKind::kAvx2 : VectorKind::kAvx512;
}

}  // namespace

VectorKind WidestVectors() {
  static const VectorKind kind = [] {
    const VectorKind most = MayUseVectors();
    if (most == VectorKind::kAvx512 && __builtin_cpu_supports("avx512f") != 0 &&
        __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0) {
      return VectorKind::kAvx512;
    }
    if (most != VectorKind::kBaseline && __builtin_cpu_supports("avx2") != 0 &&
        __builtin_cpu_supports("fma") != 0) {
      return VectorKind::kAvx2;
    }
    return VectorKind::kBaseline;
  }();
  return kind;
}

bool HasMatrixUnits() {
  static const bool has = __builtin_cpu_supports("amx-tile") != 0 &&
                          __builtin_cpu_supports("amx-bf16") != 0 && MayUseMatrixUnits();
  return has;
}

}  // namespace imageddpo
