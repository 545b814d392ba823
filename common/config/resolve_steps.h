#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/job_plan.h"
#include "imageddpo/v1/job.pb.h"

// The steps of ResolvedJob::Make(). Used inside common/config only.
namespace imageddpo {

/// Sets every setting that is not given to its default (defaults.cc lists them all).
void FillDefaults(v1::JobSpec* job);

/// @param job  defaults filled in.
/// @return INVALID_ARGUMENT where a count is out of range or a division leaves a remainder, naming
///         both settings and values that would do.
absl::StatusOr<JobPlan> MakeJobPlan(const v1::JobSpec& job);

/// Why a job cannot train with a single pass: it would not be exact (an update under other weights
/// than those that sampled), or the ranks that sample do not train. Empty if it can.
std::string WhyNoSinglePass(const v1::JobSpec& job, const JobPlan& plan);

/// Replaces `train.update: auto` by single_pass or replay, from the job's settings alone:
/// single_pass if the job names `topology: {colocated: C}`, it would be exact, and a rank's
/// gradients stay small. Never depends on the pool, so that the same job gives the same bits in any
/// pool. Sets plan->single_pass.
void ChooseUpdate(JobPlan* plan, v1::JobSpec* job);

/// Checks a job with defaults filled in, see ResolvedJob::Make().
/// @param plan  as MakeJobPlan() returned it, with the update chosen.
absl::Status ValidateJob(const v1::JobSpec& job, const absl::StatusOr<JobPlan>& plan);

/// See ResolvedJob::MicroBatchChoices().
std::vector<int64_t> MicroBatchChoices(const v1::JobSpec& job, int64_t most);

}  // namespace imageddpo
