#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/job_plan.h"
#include "common/model_config/model_count.h"
#include "imageddpo/v1/job.pb.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// Counts the model of an admitted job; see CountModel(). Reads files.
absl::StatusOr<ModelCount> CountJobModel(const v1::JobSpec& job);

/// Turns `device.device_batch_size: auto` into a number, once and for all, and so
/// `eval.batch_size` where it follows it: the largest of AutoDeviceBatches() with which the busiest
/// rank's predicted memory, with a margin, is within a rank's share.
/// @param topology  the one that the job would have now.
/// @param model     not known, as `memory` may be: the largest.
/// @param most      see AutoDeviceBatches().
/// @param job       device_batch_size 0: auto. A number that was given stays.
/// @param warnings  what memory has decided is added here, and a given number that will not fit.
/// @return FAILED_PRECONDITION with the bytes and the remedies where even 1 is too much for a job
/// that has the pool for itself.
absl::Status ResolveDeviceBatch(const Topology& topology, const std::optional<ModelCount>& model,
                                const Scheduler::RankMemory& memory, int64_t most, v1::JobSpec* job,
                                std::vector<std::string>* warnings);

}  // namespace imageddpo
