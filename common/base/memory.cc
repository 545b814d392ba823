#include "common/base/memory.h"

#ifdef IMAGEDDPO_JEMALLOC  // Not with sanitizers, which bring an allocator.
#include <jemalloc/jemalloc.h>

#include <string>

#include "absl/strings/str_cat.h"

// jemalloc reads it at start; MALLOC_CONF in the environment goes before.
extern "C" const char* malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always";

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
