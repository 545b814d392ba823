#pragma once

namespace imageddpo {

// What decides how products of bfloat16 are computed on a CPU. The same answer for all of a
// process.

/// Arithmetic for half precision (AVX512-FP16): what half_kernel.h needs.
bool HasHalfArithmetic();

/// Units for products of bfloat16 matrices (AMX), which libtorch uses: several times as fast as
/// arithmetic in any precision. Not where ONEDNN_MAX_CPU_ISA keeps libtorch from them.
bool HasMatrixUnits();

/// Whether products of bfloat16 are fastest in half precision.
inline bool PrefersHalfArithmetic() { return HasHalfArithmetic() && !HasMatrixUnits(); }

}  // namespace imageddpo
