#pragma once

#include <cstdint>
#include <functional>

namespace imageddpo {

/// Lets the tensor operations of this thread use so many threads. Call before
/// the first operation.
///
/// Makes every vector function of MKL behave alike from its first call: MKL finds out at the first
/// one which code suits the CPU, unguarded. Where two threads came first, one of them now and then
/// took other code for that call, whose exp() is off by some 1e-5. One thread alone comes first
/// here.
void UseThreads(int64_t num_threads);

/// Calls `task` for parts of 0 to `count`, [begin, end) each, in as many threads as UseThreads()
/// allows, all under the calling thread's settings for gradients; returns when all are done. Inner
/// loops of our own take this rather than at::parallel_for, which is a template and runs in one
/// thread wherever a file is not compiled for OpenMP.
/// @throws what a task throws; of several one.
void ParallelFor(int64_t count, const std::function<void(int64_t begin, int64_t end)>& task);

/// Which of the threads of ParallelFor() this is, from 0 to ThreadCount() - 1.
int64_t ThreadIndex();
int64_t ThreadCount();

}  // namespace imageddpo
