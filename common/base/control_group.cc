#include "common/base/control_group.h"

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {

std::vector<std::string> ControlGroupFolders(const std::string& root,
                                             const std::string& controller) {
  std::vector<std::string> folders;
  // Lines "number:controllers:/group"; version 2 has no controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    std::string base = root + "/sys/fs/cgroup";
    if (!controllers.empty()) {
      if (!absl::StrContains(absl::StrCat(",", controllers, ","),
                             absl::StrCat(",", controller, ","))) {
        continue;
      }
      absl::StrAppend(&base, "/", controller);
    }
    while (true) {
      folders.push_back(base + group);
      const size_t slash = group.rfind('/');
      if (slash == std::string::npos) break;
      group.resize(slash);
    }
  }
  return folders;
}

}  // namespace imageddpo
