#pragma once

#include <ATen/core/Tensor.h>

namespace imageddpo {

/// Floating-point operations per second of a square matrix product on this rank, in this dtype,
/// computed as the layers do it and with the current number of intra-op threads. The reference for
/// MFU. Takes about a tenth of a second: the matrices grow, from 1024 to 8192 rows at most, until a
/// product takes long enough.
double MeasurePeakFlops(at::Device device, at::ScalarType dtype);

}  // namespace imageddpo
