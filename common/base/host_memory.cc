#include "common/base/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

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

/// The limits of a group and of all groups around it.
void LimitByGroup(const std::string& base, std::string group, const std::string& file,
                  int64_t* bytes) {
  while (true) {
    LimitBy(absl::StrCat(base, group, "/", file), bytes);
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

}  // namespace

int64_t HostMemoryBytes(const std::string& root) {
  const int64_t pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return 0;
  int64_t bytes = pages * page_bytes;
  // Lines "number:controllers:/group"; version 2 has no controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers.empty()) {
      LimitByGroup(root + "/sys/fs/cgroup", group, "memory.max", &bytes);
    } else if (absl::StrContains(absl::StrCat(",", controllers, ","), ",memory,")) {
      LimitByGroup(root + "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", &bytes);
    }
  }
  return bytes;
}

}  // namespace imageddpo
