#pragma once

#include <chrono>

#include "common/config/reward_service.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// The deadline for waiting for another rank of the gang: for its share of an epoch, of an
/// evaluation or of an update, however much work that is. A dead, stopped or hanging peer is
/// noticed much sooner, by the transport, by the controller or by that peer itself (StageDeadline),
/// and the gang is then aborted; this bounds the waits that nothing else ends. A rank may itself
/// wait for a reward service that is away, so its peers wait for it longer by as much
/// (`rewards.max_outage_seconds`).
struct GangTimeouts {
  std::chrono::seconds phase = std::chrono::hours(24);

  /// @param job  with its defaults filled in.
  static GangTimeouts Of(const v1::JobSpec& job) {
    const std::chrono::seconds outage(static_cast<int64_t>(LongestOutageSeconds(job)) + 1);
    return {.phase = GangTimeouts().phase + outage};
  }
};

}  // namespace imageddpo
