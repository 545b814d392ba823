#pragma once

#include "common/worker/job_context.h"
#include "rollout/reward/reward_host.h"

namespace imageddpo {

/// The services that this rank offers its job's rewards: a wait ends (CANCELLED) when the job is
/// asked to stop; what is waited for, and warnings, go to the controller, which shows them with the
/// job.
/// @param context  outlives every copy of the host.
RewardHost MakeRewardHost(JobContext* context);

}  // namespace imageddpo
