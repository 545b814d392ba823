#pragma once

namespace imageddpo {

// What decides how our own kernels, and products of bfloat16, are computed on a CPU. The same
// answer for all of a process.

/// Vectors of float32 that our kernels are compiled for.
enum class VectorKind { kBaseline, kAvx2, kAvx512 };

/// The widest that the processor has. ATEN_CPU_CAPABILITY (default, avx2, avx512) lowers it, as it
/// does for libtorch's kernels.
VectorKind WidestVectors();

/// Units for products of bfloat16 matrices (AMX), which libtorch uses: several times as fast as
/// arithmetic in any precision. Not where ONEDNN_MAX_CPU_ISA keeps libtorch from them.
bool HasMatrixUnits();

}  // namespace imageddpo
