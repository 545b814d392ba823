#pragma once

#include <ATen/core/Tensor.h>

namespace imageddpo {

/// Floating-point operations per second of a square matrix product on this rank, in this dtype, as
/// the layers here would take it and with the intra-op threads that are set: what MFU is measured
/// against. Takes about a tenth of a second.
double MeasurePeakFlops(at::Device device, at::ScalarType dtype);

}  // namespace imageddpo
