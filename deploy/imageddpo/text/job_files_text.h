#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// "0 B", "999 B", "1.5 KB", "23 MB", "1.2 GB": powers of 1000. @param bytes  not negative.
std::string FormatBytes(int64_t bytes);

/// A line per checkpoint under headings, the oldest first.
std::string CheckpointTable(const v1::ListCheckpointsResponse& found);

/// A line per file under headings, and their sum.
std::string ArtifactTable(const std::vector<v1::Artifact>& artifacts);

/// What `retention` would remove, a row for each job.
std::string RemovalTable(const v1::PlanRetentionResponse& plan);

}  // namespace imageddpo
