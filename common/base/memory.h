#pragma once

namespace imageddpo {

/// Programs that link this allocate with jemalloc, set to keep what is freed for the next request
/// instead of returning it to the kernel: a step of a model frees and asks for the same blocks over
/// and over, and pages taken anew are zeroed by the kernel one fault at a time.
///
/// Gives what is free back to the kernel, between jobs.
void ReturnFreeMemory();

}  // namespace imageddpo
