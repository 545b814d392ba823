#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/cluster_config.h"
#include "common/config/job_plan.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// What is judged of a job before it is stored, without opening a model: defaults filled in,
/// settings checked, paths made absolute, files there. What only the model can tell fails the job
/// when its workers load it.
/// @param cluster  resolved.
/// @return the job as it is stored, but for what depends on the pool: device.num_threads,
/// device.device_batch_size and eval.batch_size are 0 where they are to be chosen. INVALID_ARGUMENT
/// naming every setting that is wrong, one per line; PERMISSION_DENIED: a path outside of the
/// allowed roots.
absl::StatusOr<v1::JobSpec> AdmitJob(const v1::JobSpec& submitted, const ClusterConfig& cluster);

/// Intra-op threads of each rank of a job that left the choice to the service: the cores of a host
/// over the ranks that compute there at the same time. Colocated ranks all do; rollout and trainer
/// ranks take turns.
/// @param cores_per_host    of the smallest host, >= 1.
/// @param workers_per_host  of the fullest host, >= 1.
int ChooseNumThreads(const Topology& topology, int cores_per_host, int workers_per_host);

/// SHA-256 of the job as it came in, for telling a repeated request from another one.
std::string RequestSha256(const v1::JobSpec& submitted);

}  // namespace imageddpo
