#pragma once

namespace imageddpo {

/// Whether float32 matrix products and convolutions on a GPU may round their inputs to TF32 (10
/// bits of mantissa). libtorch's switch for the whole process; a rank sets it when a job starts. No
/// effect on the CPU.
void AllowTf32(bool allow);

}  // namespace imageddpo
