#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"

namespace imageddpo {

/// The text of a file; "-": of standard input. @return INVALID_ARGUMENT naming the file.
absl::StatusOr<std::string> ReadInput(const std::string& file);

/// A job file with settings of the command line on top, judged as far as that is possible here. A
/// job without a name gets the file's.
/// @param settings  "sample.num_steps=20", ...
absl::StatusOr<ResolvedJob> LoadJobFile(const std::string& file,
                                        const std::vector<std::string>& settings);

}  // namespace imageddpo
