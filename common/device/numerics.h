#pragma once

#include <c10/core/Device.h>

namespace imageddpo {

/// How a device may round. Every switch of libtorch, cuDNN and cuBLAS that decides about it is set
/// in numerics.cc and nowhere else; none of them changes anything on the CPU, whose kernels give
/// the same bits for the same number of threads anyway.
struct Numerics {
  /// The same bits from the same operations each time, in a process and in another one on the same
  /// kind of device. Kernels that add in the order in which their threads come are not used:
  /// libtorch's own ones have a second form, cuDNN chooses only algorithms that repeat themselves,
  /// and its attention, whose backward pass does not, gives way to libtorch's. An operation that
  /// has no such form throws c10::Error.
  bool deterministic = true;
  /// float32 matrix products and convolutions may round their inputs to TF32 (10 bits of mantissa).
  bool allow_tf32 = false;
};

/// To be called once at the start of a process that may use a GPU, before it has other threads:
/// cuBLAS reads from the environment (CUBLAS_WORKSPACE_CONFIG) whether its workspaces are such that
/// it repeats its sums. What the environment says already stays, and libtorch refuses it where it
/// does not do for `deterministic`.
void PrepareNumerics();

/// Sets the switches of this process. A rank does it when a job starts.
/// @param device  that the job computes on: on the CPU only TF32's switch is set.
void UseNumerics(at::Device device, const Numerics& numerics);

}  // namespace imageddpo
