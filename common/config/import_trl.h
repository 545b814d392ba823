#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A DDPOConfig (TRL) as a job.
struct TrlImport {
  /// Everything that DDPOConfig decides, its own defaults included; without what it does not know:
  /// model, data and rewards.
  v1::JobSpec job;
  /// What has no twin here or means something else, for a person to read.
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
