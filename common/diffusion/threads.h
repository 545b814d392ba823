#pragma once

#include <cstdint>

namespace imageddpo {

/// Lets the tensor operations of this thread use so many threads. Call before
/// the first operation.
///
/// Makes every vector function of MKL behave alike from its first call: MKL finds out at the first
/// one which code suits the CPU, unguarded. Where two threads came first, one of them now and then
/// took other code for that call, whose exp() is off by some 1e-5. One thread alone comes first
/// here.
void UseThreads(int64_t num_threads);

}  // namespace imageddpo
