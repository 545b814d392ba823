#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// Paths of a set's files, every link followed, checked to lie below the roots. Looks up each
/// folder once, so that a file costs one call of the system. Thread-compatible.
class PathResolver {
 public:
  explicit PathResolver(std::vector<std::string> roots) : roots_(std::move(roots)) {}

  /// The file `name`, taken from the absolute `dir` where it is relative.
  /// @return NOT_FOUND: there is no such file. INVALID_ARGUMENT: it is no file, or has a zero byte.
  ///         PERMISSION_DENIED: it lies outside of the roots.
  absl::StatusOr<std::string> File(const std::string& name, const std::string& dir);
  /// The same for a folder, which is not checked to exist.
  absl::StatusOr<std::string> Folder(const std::string& name, const std::string& dir);

 private:
  std::vector<std::string> roots_;
  std::unordered_map<std::string, std::string> folders_;  ///< As given → resolved.
};

}  // namespace imageddpo
