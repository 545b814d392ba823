#pragma once

#include <chrono>

#include "common/config/reward_service.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// Deadlines for waiting for another rank of the gang. A dead or stopped peer is noticed much
/// sooner, by the transport or by the controller, which then aborts the gang; these bound the waits
/// that nothing else ends. A rank may itself wait for a reward service that is away, so its peers
/// wait for it longer by as much (`rewards.max_outage_seconds`).
struct GangTimeouts {
  std::chrono::seconds phase = std::chrono::hours(24);   ///< For a peer's share of an epoch.
  std::chrono::seconds step = std::chrono::minutes(60);  ///< For a peer's micro-batch or update.

  /// @param job  with its defaults filled in.
  static GangTimeouts Of(const v1::JobSpec& job) {
    const std::chrono::seconds outage(static_cast<int64_t>(LongestOutageSeconds(job)) + 1);
    const GangTimeouts without;
    return {.phase = without.phase + outage, .step = without.step + outage};
  }
};

}  // namespace imageddpo
