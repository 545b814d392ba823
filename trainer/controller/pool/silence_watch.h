#pragma once

#include <spdlog/logger.h>

#include <map>
#include <memory>

#include "common/metrics/service_metrics.h"

namespace imageddpo {

/// Reports a worker as slow, in the log and in a metric, when it has been silent for half of the
/// heartbeat timeout, so before it counts as dead. Thread-compatible.
class SilenceWatch {
 public:
  /// @param metrics  must outlive the object.
  SilenceWatch(double heartbeat_timeout_seconds, ServiceMetrics& metrics,
               std::shared_ptr<spdlog::logger> logger);

  /// Call it several times a second. @param ages_s  seconds since each live worker was last heard,
  /// by world rank.
  void Look(const std::map<int, double>& ages_s);

 private:
  const double timeout_s_;
  ServiceMetrics& metrics_;
  const std::shared_ptr<spdlog::logger> logger_;
  std::map<int, double> silent_;  // Slow ranks, with the longest silence seen of each.
};

}  // namespace imageddpo
