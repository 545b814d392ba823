#pragma once

#include "common/worker/job_context.h"

namespace imageddpo {

/// What a rank does for a training job: loads its parts of the model, goes on from the checkpoint
/// in StartJob if there is one, and runs the epochs' phases of the roles the gang layout gives it.
/// Statuses name the file, setting or rank that is at fault.
absl::Status RunJob(JobContext& context);

}  // namespace imageddpo
