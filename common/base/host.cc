#include "common/base/host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/control_group.h"

namespace imageddpo {
namespace {

/// Of the process' affinity; the kernel wants a mask as large as its own.
int AffinityProcessors() {
  for (size_t count = 1024; count <= (size_t{1} << 20); count *= 2) {
    std::vector<cpu_set_t> mask((count + CPU_SETSIZE - 1) / CPU_SETSIZE);
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) == 0) return CPU_COUNT_S(bytes, mask.data());
    if (errno != EINVAL) break;
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// The number in the first line of `file`; 0 where there is none, as in "max".
int64_t ReadNumber(const std::string& file) {
  std::ifstream stream(file);
  std::string text;
  int64_t number = 0;
  return stream >> text && absl::SimpleAtoi(text, &number) ? number : 0;
}

/// Lowers `bytes` to the number in `file`; "max" and files that are not there limit nothing.
void LimitBy(const std::string& file, int64_t* bytes) {
  if (const int64_t limit = ReadNumber(file); limit > 0) *bytes = std::min(*bytes, limit);
}

}  // namespace

int AvailableProcessors(const std::string& root) {
  int64_t processors = AffinityProcessors();
  const auto limit = [&processors](int64_t quota_us, int64_t period_us) {
    if (quota_us > 0 && period_us > 0) processors = std::min(processors, quota_us / period_us);
  };
  for (const std::string& folder : ControlGroupFolders(root, "cpu")) {
    std::ifstream stream(absl::StrCat(folder, "/cpu.max"));  // Version 2: "250000 100000".
    std::string quota;
    int64_t quota_us = 0;
    int64_t period_us = 0;
    if (stream >> quota >> period_us && absl::SimpleAtoi(quota, &quota_us)) {
      limit(quota_us, period_us);
    }
    limit(ReadNumber(absl::StrCat(folder, "/cpu.cfs_quota_us")),
          ReadNumber(absl::StrCat(folder, "/cpu.cfs_period_us")));
  }
  return static_cast<int>(std::max<int64_t>(1, processors));
}

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
