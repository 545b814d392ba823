#pragma once

#include <cstddef>

namespace imageddpo {

/// Memory to work in that the calling thread keeps: blocks of many megabytes that are freed and
/// asked for again are zeroed by the kernel page by page, which takes longer than what is computed
/// in them.
/// @return `bytes` undefined bytes, aligned to a page. Valid until this thread's next call.
/// @throws std::bad_alloc
void* ThreadWorkspace(size_t bytes);

}  // namespace imageddpo
