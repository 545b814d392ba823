#include "common/device/numerics.h"

#include <ATen/Context.h>

#include <cstdlib>

namespace imageddpo {

void PrepareNumerics() {
  // Eight workspaces of 4 MiB for each handle, one of the two settings that NVIDIA names for
  // repeatable results ("cuBLAS", section on reproducibility); the other is smaller and slower.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
}

void UseNumerics(at::Device device, const Numerics& numerics) {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuBLAS(numerics.allow_tf32);
  context.setAllowTF32CuDNN(numerics.allow_tf32);  // libtorch's own default is to allow it.
  if (device.is_cpu()) return;
  // Not only warnings: attention takes its repeatable backward pass where errors are asked for.
  context.setDeterministicAlgorithms(numerics.deterministic, /*warn_only=*/false);
  // By default libtorch then also writes NaN into all memory that it hands out.
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(numerics.deterministic);
  context.setBenchmarkCuDNN(false);  // Measured choices of algorithms differ from run to run.
  context.setSDPUseCuDNN(!numerics.deterministic);
}

}  // namespace imageddpo
