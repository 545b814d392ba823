#pragma once

namespace imageddpo {

/// Whether matrix products and convolutions of float32 on a GPU may round their inputs to TF32 (10
/// bits of mantissa). Of the whole process, as libtorch has it: a rank sets it when a job starts.
/// Of no effect on the CPU.
void AllowTf32(bool allow);

}  // namespace imageddpo
