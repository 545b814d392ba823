#pragma once

#include <cstdint>
#include <functional>

namespace imageddpo {

/// Sets the number of threads for tensor operations called by this thread. Call it before the first
/// operation.
///
/// It also makes MKL's vector functions reproducible. At its first call MKL chooses code for the
/// CPU, without a lock; when two threads made that call at once, one of them sometimes ran other
/// code for it, whose exp() differs by some 1e-5. UseThreads() makes the first call from one thread
/// alone.
void UseThreads(int64_t num_threads);

/// Calls `task` for parts [begin, end) of 0 to `count`, in as many threads as UseThreads() has set,
/// with the calling thread's GradMode; returns when all are done. Use it instead of
/// at::parallel_for, which is a template and runs in one thread in files that are not compiled for
/// OpenMP.
/// @throws what a task throws; if several throw, one of the exceptions.
void ParallelFor(int64_t count, const std::function<void(int64_t begin, int64_t end)>& task);

/// The index of the current thread within ParallelFor(), from 0 to ThreadCount() - 1.
int64_t ThreadIndex();
int64_t ThreadCount();

}  // namespace imageddpo
