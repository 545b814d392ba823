#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <string>

#include "common/comm/control_channel.h"
#include "common/config/cluster_config.h"

namespace imageddpo {

inline constexpr int kExitRefused =
    2;  ///< The service could not start; starting again would not help.

/// How a rank ended.
struct RankOutcome {
  int exit_code = 0;    ///< 0 stopped, kExitRestart, or kExitRefused with the reason in the log.
  bool worked = false;  ///< Of kExitRestart on rank 0: a job got further or was charged with a
                        ///< death, so that restarts like this one come to an end.
};

/// Rank 0: serves until `stop_requested` or until all ranks have to be started again.
/// @param on_restart  Called for kExitRestart as soon as all is stored: closing the servers takes a
/// while, for which a process with a crashed thread has no time.
RankOutcome RunControllerRank(const ClusterConfig& cluster, ControllerChannel& channel,
                              const std::string& device_kind,
                              const std::shared_ptr<spdlog::logger>& logger,
                              const std::function<bool()>& stop_requested,
                              const std::function<void(const RankOutcome&)>& on_restart);

}  // namespace imageddpo
