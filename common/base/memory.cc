#include "common/base/memory.h"

#ifdef IMAGEDDPO_JEMALLOC  // Not with sanitizers, which bring an allocator.
#include <jemalloc/jemalloc.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace imageddpo {

void ReturnFreeMemory() {
  const std::string all = absl::StrCat("arena.", MALLCTL_ARENAS_ALL, ".purge");
  mallctl(all.c_str(), nullptr, nullptr, nullptr, 0);
}

}  // namespace imageddpo

#else

namespace imageddpo {

void ReturnFreeMemory() {}

}  // namespace imageddpo

#endif
