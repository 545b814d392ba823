#pragma once

#include "absl/status/status.h"
#include "common/config/cluster_config.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Whether a rank may open the files that a job names: its paths lead to allowed places now
/// (CheckJobPaths()), and the files that are known by their hash have it.
/// @param cluster  resolved. @return PERMISSION_DENIED naming setting and file.
absl::Status CheckJobFiles(const ClusterConfig& cluster, const v1::JobSpec& job);

}  // namespace imageddpo
