#include "common/base/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/control_group.h"

namespace imageddpo {
namespace {

/// Lowers `bytes` to the number in `file`; "max" and files that are not there limit nothing.
void LimitBy(const std::string& file, int64_t* bytes) {
  std::ifstream stream(file);
  std::string text;
  int64_t limit = 0;
  if (std::getline(stream, text) && absl::SimpleAtoi(text, &limit) && limit > 0) {
    *bytes = std::min(*bytes, limit);
  }
}

}  // namespace

int64_t HostMemoryBytes(const std::string& root) {
  const int64_t pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return 0;
  int64_t bytes = pages * page_bytes;
  for (const std::string& folder : ControlGroupFolders(root, "memory")) {
    LimitBy(absl::StrCat(folder, "/memory.max"), &bytes);             // Version 2.
    LimitBy(absl::StrCat(folder, "/memory.limit_in_bytes"), &bytes);  // Version 1.
  }
  return bytes;
}

int64_t ResidentBytes() {
  std::ifstream stream("/proc/self/statm");  // In pages: all of its memory, then what is resident.
  int64_t size = 0, resident = 0;
  if (!(stream >> size >> resident)) return 0;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace imageddpo
