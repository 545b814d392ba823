#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/config/topology.h"
#include "common/model_config/model_count.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// Closes an open micro-batch (`device.device_batch_size: auto`): chooses the largest of
/// ResolvedJob::MicroBatchChoices() for which the predicted memory of the busiest rank, with a
/// margin, fits into a rank's share. If model or memory is not known, it chooses the largest. A
/// number that was set stays.
/// @param job       its update is closed; see CloseUpdate().
/// @param topology  the one that the job would get now.
/// @param model     not set: not known.
/// @param most      see MicroBatchChoices().
/// @param warnings  receives a warning if memory made the number smaller, or if a number that was
///                  set is predicted not to fit.
/// @return the job as it is stored. FAILED_PRECONDITION with the bytes and the remedies if not even
///         1 fits when the job has the pool for itself.
absl::StatusOr<ResolvedJob> ChooseMicroBatch(const ResolvedJob& job, const Topology& topology,
                                             const std::optional<ModelCount>& model,
                                             const Scheduler::RankMemory& memory, int64_t most,
                                             std::vector<std::string>* warnings);

}  // namespace imageddpo
