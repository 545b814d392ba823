#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// The text of a file; "-": of standard input. @return INVALID_ARGUMENT naming the file.
absl::StatusOr<std::string> ReadInput(const std::string& file);

/// A job file with settings of the command line on top, checked as far as that is possible here.
/// Only what was given is filled in, but for the name, which is the file's where there is none.
/// @param settings  "sample.num_steps=20", ...
absl::StatusOr<v1::JobSpec> LoadJobFile(const std::string& file,
                                        const std::vector<std::string>& settings);

}  // namespace imageddpo
