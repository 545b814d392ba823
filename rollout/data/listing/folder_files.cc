#include "rollout/data/listing/folder_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNamesShown = 3;

/// Walks one folder after the other.
class Walk {
 public:
  Walk(bool recursive, PathResolver* resolver, FolderFiles* files)
      : recursive_(recursive), resolver_(resolver), files_(files) {}

  absl::Status Run() {
    open_.emplace_back("", files_->folder);
    seen_.insert(files_->folder);
    while (!open_.empty()) {
      const auto [prefix, path] = std::move(open_.back());
      open_.pop_back();
      IMAGEDDPO_RETURN_IF_ERROR(Read(prefix, path));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Read(const std::string& prefix, const std::string& path) {
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error)) {
      entries.push_back(*entry);
    }
    if (error) {
      return absl::ErrnoToStatus(error.value(),
                                 absl::StrCat("cannot read the folder '", ValidText(path), "'"));
    }
    // Sorted, so that it is the same everywhere by which of two names a folder is entered.
    std::sort(entries.begin(), entries.end());
    for (const fs::directory_entry& entry : entries) {
      const std::string name = entry.path().filename().string();
      if (name.front() == '.') continue;
      if (entry.is_symlink(error)) {
        IMAGEDDPO_RETURN_IF_ERROR(Follow(prefix, name, path));
      } else if (entry.is_directory(error)) {
        if (name != "__MACOSX")
          Enter(absl::StrCat(prefix, name, "/"), absl::StrCat(path, "/", name));
      } else if (entry.is_regular_file(error)) {
        Add(prefix + name, absl::StrCat(path, "/", name));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Follow(const std::string& prefix, const std::string& name, const std::string& dir) {
    const absl::StatusOr<std::string> file = resolver_->File(name, dir);
    if (file.ok()) {
      Add(prefix + name, *file);
      return absl::OkStatus();
    }
    const auto leads_nowhere = [&](const absl::Status& why) {
      files_->dangling.push_back(absl::StrCat("the link '", ValidText(absl::StrCat(dir, "/", name)),
                                              "' leads nowhere: ", why.message()));
      return absl::OkStatus();
    };
    if (absl::IsNotFound(file.status())) return leads_nowhere(file.status());
    if (!absl::IsInvalidArgument(file.status())) return file.status();
    if (!recursive_) return absl::OkStatus();  // A link to a folder.
    const absl::StatusOr<std::string> folder = resolver_->Folder(name, dir);
    if (absl::IsInvalidArgument(folder.status())) return leads_nowhere(folder.status());  // A loop.
    if (!folder.ok()) return folder.status();
    std::error_code error;
    if (fs::is_directory(*folder, error)) Enter(absl::StrCat(prefix, name, "/"), *folder);
    return absl::OkStatus();
  }

  void Add(std::string name, const std::string& path) {
    if (path != absl::StrCat(files_->folder, "/", name)) files_->resolved.emplace_back(name, path);
    files_->names.push_back(std::move(name));
  }

  void Enter(std::string prefix, std::string path) {
    if (!recursive_) return;
    if (seen_.insert(path).second) {
      open_.emplace_back(std::move(prefix), std::move(path));
    } else {
      files_->warnings.push_back(absl::StrCat("'", ValidText(prefix), "' of '",
                                              ValidText(files_->folder),
                                              "' is a folder that was met before, and is not "
                                              "entered again"));
    }
  }

  const bool recursive_;
  PathResolver* const resolver_;
  FolderFiles* const files_;
  std::vector<std::pair<std::string, std::string>> open_;  ///< Prefix and path.
  std::set<std::string> seen_;
};

}  // namespace

std::string FolderFiles::PathOf(const std::string& name) const {
  const auto found =
      std::lower_bound(resolved.begin(), resolved.end(), std::pair(name, std::string()));
  if (found != resolved.end() && found->first == name) return found->second;
  return absl::StrCat(folder, "/", name);
}

absl::StatusOr<FolderFiles> ListFiles(const std::string& folder, bool recursive,
                                      PathResolver* resolver) {
  FolderFiles files{.folder = folder};
  IMAGEDDPO_RETURN_IF_ERROR(Walk(recursive, resolver, &files).Run());
  std::sort(files.names.begin(), files.names.end());
  std::sort(files.resolved.begin(), files.resolved.end());
  std::sort(files.dangling.begin(), files.dangling.end());
  std::sort(files.warnings.begin(), files.warnings.end());
  return files;
}

std::string_view FolderPart(std::string_view name) { return name.substr(0, name.rfind('/') + 1); }

std::string_view LeafOf(std::string_view name) { return name.substr(name.rfind('/') + 1); }

std::string_view StemOf(std::string_view name) {
  const std::string_view leaf = LeafOf(name);
  return leaf.substr(0, leaf.rfind('.'));
}

std::string_view FolderAt(std::string_view name, int depth) {
  for (; depth > 0; --depth) {
    const size_t slash = name.find('/');
    if (slash == std::string_view::npos) return {};
    name.remove_prefix(slash + 1);
  }
  const size_t slash = name.find('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
}

std::string SomeTexts(const std::vector<std::string>& texts) {
  const size_t shown = std::min(kNamesShown, texts.size());
  const std::string first = absl::StrJoin(texts.begin(), texts.begin() + shown, ", ");
  return shown == texts.size() ? first
                               : absl::StrCat(first, " and ", texts.size() - shown, " more");
}

std::string SomeNames(const std::vector<std::string>& names) {
  std::vector<std::string> texts;
  texts.reserve(names.size());
  for (const std::string& name : names) texts.push_back(ValidText(name));
  return SomeTexts(texts);
}

}  // namespace imageddpo
