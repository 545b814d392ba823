#include "common/base/available_processors.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
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

}  // namespace imageddpo
