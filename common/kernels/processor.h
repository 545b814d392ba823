#pragma once

namespace imageddpo {

// Properties of the CPU that decide how our kernels and bfloat16 matrix products are computed.
// They do not change while a process runs.

/// Vectors of float32 that our kernels are compiled for.
enum class VectorKind { kBaseline, kAvx2, kAvx512 };

/// The widest kind that the processor has. ATEN_CPU_CAPABILITY (default, avx2, avx512) lowers it,
/// as it does for libtorch's kernels.
VectorKind WidestVectors();

/// Whether libtorch can use AMX units for bfloat16 matrix products. AMX is several times as fast as
/// the vector units in any precision. False where ONEDNN_MAX_CPU_ISA disables them.
bool HasMatrixUnits();

}  // namespace imageddpo
