#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rollout/data/dataset.h"

namespace imageddpo {

/// The examples of a metadata.jsonl, in its order; file names made absolute and checked to be files
/// below `allowed_roots`.
/// @param bytes       the file's content
/// @param path        its path, for messages ("path:line: …")
/// @param dir         absolute folder that file names are relative to
absl::StatusOr<std::vector<Example>> ParseMetadata(std::string_view bytes, const std::string& path,
                                                   const std::string& dir,
                                                   const std::vector<std::string>& allowed_roots);

/// OK when `path` is a regular file or a link to one.
absl::Status CheckIsFile(const std::string& path);

}  // namespace imageddpo
