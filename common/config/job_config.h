#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Reads a job file: YAML (or JSON) of v1.JobSpec. `file` is used in messages only.
/// `topology: auto` is an empty TopologySpec.
/// @return INVALID_ARGUMENT naming file, line, key and, for an unknown key, the closest known one.
absl::StatusOr<v1::JobSpec> ParseJobYaml(std::string_view text, const std::string& file);

/// Sets one setting, as `submit --set` does: "sample.num_steps=20", "rewards.0.weight=0.5",
/// "lora.target_modules=[to_q, to_v]", "topology=auto". Replaces what was there. The value is
/// YAML, but the plain text for a text setting.
/// @return INVALID_ARGUMENT as ParseJobYaml(); then the job is unchanged.
absl::Status ApplyJobSetting(std::string_view assignment, v1::JobSpec* job);

/// The job as YAML with every setting that is present, in the schema's order. ParseJobYaml() reads
/// it back to the same job, bit for bit.
std::string JobToYaml(const v1::JobSpec& job);

}  // namespace imageddpo
