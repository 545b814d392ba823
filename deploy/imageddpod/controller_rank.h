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

/// Rank 0: serves until `stop_requested` or until all ranks have to be started again.
/// @return the exit code: 0 stopped, kExitRestart, or kExitRefused with the reason in the log.
int RunControllerRank(const ClusterConfig& cluster, ControllerChannel& channel,
                      const std::string& device_kind, const std::shared_ptr<spdlog::logger>& logger,
                      const std::function<bool()>& stop_requested);

}  // namespace imageddpo
