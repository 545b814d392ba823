#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "rollout/data/listing/path_resolver.h"

namespace imageddpo {

/// The files of a folder and, where asked for, of its sub-folders, except names that begin with a
/// dot. Sorted by the bytes of their names.
struct FolderFiles {
  std::string folder;              ///< Absolute, resolved.
  std::vector<std::string> names;  ///< Relative to the folder, with '/'; any bytes.
  /// Absolute paths, links resolved, of those names that are not plainly folder/name; by name.
  std::vector<std::pair<std::string, std::string>> resolved;
  std::vector<std::string> dangling;  ///< A line for each link that leads nowhere.
  std::vector<std::string> warnings;

  std::string PathOf(const std::string& name) const;
};

/// @param folder  absolute, resolved.
/// @return PERMISSION_DENIED: a link leads out of the roots. Other errors: a folder that cannot be
///         read.
absl::StatusOr<FolderFiles> ListFiles(const std::string& folder, bool recursive,
                                      PathResolver* resolver);

/// The folder part of a name: "" or "a/b/".
std::string_view FolderPart(std::string_view name);
/// The name of the folder at `depth` on the way to the file; empty: the file itself lies there or
/// above.
std::string_view FolderAt(std::string_view name, int depth);
/// Without folder and extension.
std::string_view StemOf(std::string_view name);
std::string_view LeafOf(std::string_view name);

/// "a.png, b.png, c.png and 7 more".
std::string SomeTexts(const std::vector<std::string>& texts);
/// The same of names, each as ValidText().
std::string SomeNames(const std::vector<std::string>& names);

}  // namespace imageddpo
