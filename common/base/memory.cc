#include "common/base/memory.h"

#ifdef IMAGEDDPO_JEMALLOC  // Not with sanitizers, which bring an allocator.
#include <jemalloc/jemalloc.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace imageddpo {

void KeepFreeMemory() {
  ssize_t never = -1;
  unsigned arenas = 0;
  size_t size = sizeof(arenas);
  mallctl("arenas.narenas", &arenas, &size, nullptr, 0);
  for (const char* decay : {"dirty_decay_ms", "muzzy_decay_ms"}) {
    // Of arenas to come and of those that there are.
    mallctl(absl::StrCat("arenas.", decay).c_str(), nullptr, nullptr, &never, sizeof(never));
    for (unsigned i = 0; i < arenas; ++i) {
      mallctl(absl::StrCat("arena.", i, ".", decay).c_str(), nullptr, nullptr, &never,
              sizeof(never));
    }
  }
}

void ReturnFreeMemory() {
  const std::string all = absl::StrCat("arena.", MALLCTL_ARENAS_ALL, ".purge");
  mallctl(all.c_str(), nullptr, nullptr, nullptr, 0);
}

}  // namespace imageddpo

#else

namespace imageddpo {

void KeepFreeMemory() {}

void ReturnFreeMemory() {}

}  // namespace imageddpo

#endif
