#pragma once

namespace imageddpo {

// Programs that link this allocate with jemalloc.

/// From now on what is freed is kept for what is asked for next. By default jemalloc gives it back
/// to the kernel after some seconds, and blocks of 8 MiB and more at once; but a step of a model
/// frees and asks for the same blocks over and over, and pages that come from the kernel are zeroed
/// by it one fault at a time.
void KeepFreeMemory();

/// Gives what is free back to the kernel: for between jobs.
void ReturnFreeMemory();

}  // namespace imageddpo
