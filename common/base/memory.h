#pragma once

namespace imageddpo {

// Programs that link this allocate with jemalloc.

/// From now on freed memory is kept for later allocations. By default jemalloc returns it to the
/// kernel after some seconds, and blocks of 8 MiB and more at once. But a model's step frees and
/// allocates the same blocks over and over, and the kernel zeroes each returned page again, one
/// page fault at a time.
void KeepFreeMemory();

/// Returns free memory to the kernel; to be called between jobs.
void ReturnFreeMemory();

}  // namespace imageddpo
