#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/cluster_config.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A path that a job names, as the service may open it: relative ones start at base_dir, and the
/// result, with every symbolic link followed, lies below one of allowed_roots; for lora.init_from
/// also below the folder of all jobs, whose LoRAs anyone who may submit jobs can fetch.
/// @param config   after ResolveClusterConfig().
/// @param setting  for messages: "data.path".
/// @param path     as the job names it; PathOf() of it is opened.
/// @return the path as ValidText(); open PathOf() of it.
/// INVALID_ARGUMENT where it does not exist, naming setting and absolute path;
/// PERMISSION_DENIED where it lies outside the roots, naming them.
absl::StatusOr<std::string> ResolveJobPath(const ClusterConfig& config, const std::string& setting,
                                           const std::string& path);

/// ResolveJobPath() for every path of a job (model.path, lora.init_from, data.path, eval.path,
/// eval.files, model, tls_ca_file and token_file of rewards[i]); those that are not given stay so.
/// All faults at once, one per line; on an error the job is unchanged.
absl::Status ResolveJobPaths(const ClusterConfig& config, v1::JobSpec* job);

/// Whether a job's paths, and every symbolic link below the folders of its model and LoRA, lead to
/// allowed places now. The service asks before it takes a job, and each rank again before it opens
/// the files: links may have been changed meanwhile.
/// @return PERMISSION_DENIED naming settings and files. What is missing or cannot be read is for
///         who opens it.
absl::Status CheckJobPaths(const ClusterConfig& config, const v1::JobSpec& job);

}  // namespace imageddpo
