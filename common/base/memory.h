#pragma once

namespace imageddpo {

/// Programs that link this allocate with jemalloc, which keeps what is freed for some seconds: a
/// step of a model frees and asks for the same blocks over and over, and pages that were returned
/// to the kernel in between are zeroed by it one fault at a time.
///
/// Gives what is free back to the kernel: between jobs, since an idle program frees nothing that
/// would remind jemalloc of it.
void ReturnFreeMemory();

}  // namespace imageddpo
