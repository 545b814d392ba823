#include <filesystem>
#include <list>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // As Linux's own limit.

absl::StatusOr<fs::path> MakeAbsolute(const std::string& path, const std::string& base_dir) {
  std::error_code error;
  const fs::path base = fs::absolute(base_dir.empty() ? "." : base_dir, error);
  if (error)
    return absl::ErrnoToStatus(error.value(),
                               absl::StrCat("cannot find the directory '", base_dir, "'"));
  return base / path;
}

/// Follows every link, the last component's and those whose target is missing too.
/// std::filesystem::weakly_canonical takes a dangling link for a missing file, so that creating the
/// file would leave the root it was checked against.
absl::StatusOr<fs::path> FollowLinks(const fs::path& absolute) {
  std::list<fs::path> pending(absolute.begin(), absolute.end());
  fs::path resolved;
  int links = 0;
  while (!pending.empty()) {
    const fs::path component = pending.front();
    pending.pop_front();
    if (component == "/") {
      resolved = "/";
    } else if (component == "..") {
      resolved = resolved.parent_path();
    } else if (!component.empty() && component != ".") {
      const fs::path candidate = resolved / component;
      std::error_code error;
      const fs::file_status status = fs::symlink_status(candidate, error);
      if (status.type() == fs::file_type::symlink) {
        if (++links > kMaxLinks) {
          return absl::InvalidArgumentError(
              absl::StrCat("too many symbolic links in '", absolute.string(), "'"));
        }
        const fs::path target = fs::read_symlink(candidate, error);
        if (error)
          return absl::ErrnoToStatus(error.value(),
                                     absl::StrCat("cannot read '", candidate.string(), "'"));
        pending.insert(pending.begin(), target.begin(), target.end());
      } else if (status.type() == fs::file_type::none) {  // An error other than "there is none".
        return absl::ErrnoToStatus(error.value(),
                                   absl::StrCat("cannot look up '", candidate.string(), "'"));
      } else {
        resolved = candidate;
      }
    }
  }
  return resolved;
}

bool LiesIn(const fs::path& path, const fs::path& root) {
  auto component = path.begin();
  for (const fs::path& expected : root) {
    if (component == path.end() || *component != expected) return false;
    ++component;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::string& base_dir,
                                              const std::vector<std::string>& roots) {
  if (path.empty()) return absl::InvalidArgumentError("the path is empty");
  if (path.find('\0') != std::string::npos)
    return absl::InvalidArgumentError("the path contains a zero byte");

  IMAGEDDPO_ASSIGN_OR_RETURN(const fs::path absolute, MakeAbsolute(path, base_dir));
  IMAGEDDPO_ASSIGN_OR_RETURN(const fs::path resolved, FollowLinks(absolute));

  for (const std::string& root : roots) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const fs::path absolute_root, MakeAbsolute(root, ""));
    IMAGEDDPO_ASSIGN_OR_RETURN(const fs::path resolved_root, FollowLinks(absolute_root));
    if (LiesIn(resolved, resolved_root)) return resolved.string();
  }

  const std::string shown = resolved.string() == path
                                ? absl::StrCat("'", path, "'")
                                : absl::StrCat("'", path, "' (", resolved.string(), ")");
  if (roots.empty())
    return absl::PermissionDeniedError(absl::StrCat(shown, " is refused: no folder is allowed"));
  return absl::PermissionDeniedError(absl::StrCat(
      shown, " does not lie in an allowed folder; allowed are ", absl::StrJoin(roots, ", ")));
}

}  // namespace imageddpo
