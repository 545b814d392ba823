#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/config/resolved_job.h"
#include "common/config/reward_types.h"
#include "rollout/reward/remote/remote_reward.h"

namespace imageddpo {

/// How the service of a reward of `type: service` is reached; reads the certificates and the token.
/// @return errors name the setting; INVALID_ARGUMENT: the token's file has no token.
absl::StatusOr<RemoteRewardOptions> MakeRemoteOptions(const RewardConfig& config);

/// Whether every reward service of the job is there: asks for descriptions and health, once. A
/// service with which something else is wrong counts as there, since waiting would not help. Blocks
/// for up to a quarter of a minute for each address that does not answer.
/// @param is_stopped  called several times a second; true ends the wait, and the answer is false.
bool AreRewardServicesThere(const ResolvedJob& job, const Clock& clock,
                            const std::function<bool()>& is_stopped);

}  // namespace imageddpo
