#include "rollout/data/listing/path_resolver.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {

absl::StatusOr<std::string> PathResolver::Folder(const std::string& name, const std::string& dir) {
  const std::string key =
      !name.empty() && name.front() == '/' ? name : absl::StrCat(dir, "/", name);
  const auto found = folders_.find(key);
  if (found != folders_.end()) return found->second;
  IMAGEDDPO_ASSIGN_OR_RETURN(std::string resolved,
                             ResolveUnderRoots(name.empty() ? "." : name, dir, roots_));
  return folders_.emplace(key, std::move(resolved)).first->second;
}

absl::StatusOr<std::string> PathResolver::File(const std::string& name, const std::string& dir) {
  const size_t slash = name.rfind('/');
  const std::string leaf = slash == std::string::npos ? name : name.substr(slash + 1);
  const bool is_plain =
      !leaf.empty() && leaf != "." && leaf != ".." && name.find('\0') == std::string::npos;
  std::string path;
  struct stat info {};
  if (is_plain) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        const std::string folder,
        Folder(slash == std::string::npos ? "" : name.substr(0, slash + 1), dir));
    path = absl::StrCat(folder, folder == "/" ? "" : "/", leaf);
    if (::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) return path;
  }
  if (!is_plain || S_ISLNK(info.st_mode)) {
    IMAGEDDPO_ASSIGN_OR_RETURN(path, ResolveUnderRoots(name, dir, roots_));
  }
  if (::stat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("cannot open the image '", ValidText(path), "'"));
  }
  if (S_ISREG(info.st_mode)) return path;
  return absl::InvalidArgumentError(absl::StrCat("'", ValidText(path), "' is not a file"));
}

}  // namespace imageddpo
