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
#include "trainer/controller/pool/job_queue.h"

namespace imageddpo {

/// Counts the model of an admitted job; see CountModel(). Reads files.
absl::StatusOr<ModelCount> CountJobModel(const v1::JobSpec& job);

/// Replaces `device.device_batch_size: auto` (0) by a number, and `eval.batch_size` with it if that
/// is 0. Chooses the largest of AutoDeviceBatches() for which the predicted memory of the busiest
/// rank, with a margin, fits into a rank's share. If model or memory is not known, it chooses the
/// largest. A number that was set stays.
/// @param topology  the one that the job would get now.
/// @param model     not set: not known.
/// @param most      see AutoDeviceBatches().
/// @param warnings  receives a warning if memory made the number smaller, or if a number that was
///                  set is predicted not to fit.
/// @return FAILED_PRECONDITION with the bytes and the remedies if not even 1 fits when the job has
///         the pool for itself.
absl::Status ResolveDeviceBatch(const Topology& topology, const std::optional<ModelCount>& model,
                                const Scheduler::RankMemory& memory, int64_t most, v1::JobSpec* job,
                                std::vector<std::string>* warnings);

}  // namespace imageddpo
