#include "common/diffusion/processor.h"

namespace imageddpo {

bool HasHalfArithmetic() {
  static const bool has =
      __builtin_cpu_supports("avx512fp16") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return has;
}

bool HasMatrixUnits() {
  static const bool has =
      __builtin_cpu_supports("amx-tile") != 0 && __builtin_cpu_supports("amx-bf16") != 0;
  return has;
}

}  // namespace imageddpo
