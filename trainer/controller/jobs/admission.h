#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/cluster_config.h"
#include "common/config/resolved_job.h"
#include "common/config/topology.h"
#include "imageddpo/v1/job.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// Replaces a job's id as `lora.init_from` by the path of that job's LoRA: job-000012, of its
/// newest checkpoint; job-000012:best, of its best evaluation (checkpoint.best). Who may submit a
/// job may start it from any job's LoRA, as with BranchJob. Anything else stays as it is.
/// @return NOT_FOUND: no such job. FAILED_PRECONDITION: it has no such LoRA, or has not ended and
///         would remove older checkpoints as it goes on.
absl::Status NameLoraOfJob(const JobStore& store, v1::JobSpec* job);

/// Checks a submitted job before it is stored, without opening the model: fills in defaults, checks
/// settings, makes paths absolute and checks that files exist. What only the model can tell fails
/// the job when its workers load it.
/// @param cluster      resolved.
/// @param is_operator  The job is of the service's own user or of another admin, who may name any
///                     reward; others those of `rewards.allow`.
/// @return the judged job. What depends on the pool is still open: device.num_threads is 0, and the
///         micro-batch open, where they were not given.
///         INVALID_ARGUMENT names every wrong setting, one per line; PERMISSION_DENIED: a path
///         outside the allowed roots, or a reward that is not allowed.
absl::StatusOr<ResolvedJob> AdmitJob(const v1::JobSpec& submitted, const ClusterConfig& cluster,
                                     bool is_operator);

/// Intra-op threads of each rank, for a job with device.num_threads 0: the cores of a host divided
/// by the number of ranks that compute there at the same time. Colocated ranks all compute at once;
/// rollout and trainer ranks take turns.
/// @param cores_per_host    of the host with the fewest, >= 1.
/// @param workers_per_host  of the host with the most, >= 1.
int ChooseNumThreads(const Topology& topology, int cores_per_host, int workers_per_host);

/// SHA-256 of the job as submitted, to tell a repeated request from a different one.
std::string RequestSha256(const v1::JobSpec& submitted);

}  // namespace imageddpo
