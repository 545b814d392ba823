#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A DDPOConfig (TRL) as a job.
struct TrlImport {
  /// Everything that DDPOConfig decides, its own defaults included. Model, data and rewards are not
  /// set: it does not know them.
  v1::JobSpec job;
  /// Settings without a counterpart here, or with another meaning. For people.
  std::vector<std::string> notes;

  /// A job file: the notes as comments, the job, and lines to fill in for what DDPOConfig does not
  /// know.
  std::string ToYaml(const std::string& source) const;
};

/// Reads DDPOConfig's flat settings, YAML or JSON. Its batch sizes are per process and ours are
/// not, so they are multiplied.
/// @param file       for messages only.
/// @param processes  how many processes ran (accelerate's num_processes); 1 or more.
/// @return INVALID_ARGUMENT naming file, line, key and, for an unknown key, the closest known one.
absl::StatusOr<TrlImport> ImportTrl(std::string_view text, const std::string& file, int processes);

}  // namespace imageddpo
