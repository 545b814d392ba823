#pragma once

#include <cstddef>

namespace imageddpo {

/// Scratch memory that the calling thread keeps. (When blocks of many megabytes are freed and
/// allocated again, the kernel zeroes their pages each time, which takes longer than the
/// computation in them.)
/// @return `bytes` uninitialised bytes, page-aligned. Valid until this thread's next call.
/// @throws std::bad_alloc
void* ThreadWorkspace(size_t bytes);

}  // namespace imageddpo
