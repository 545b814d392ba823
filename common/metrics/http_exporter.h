#pragma once

#include <prometheus/registry.h>

#include <functional>
#include <memory>
#include <string>

#include "common/http/http_server.h"

namespace imageddpo {

/// What /healthz answers.
struct Health {
  bool ok = true;
  std::string reason;  ///< Why it is not ok, or a remark; for people.
};

/// /metrics: OpenMetrics 1.0 to clients that ask for it in their Accept header, as Prometheus does,
/// else Prometheus' text format 0.0.4.
HttpRoute MetricsRoute(std::shared_ptr<prometheus::Registry> registry);

/// /healthz: JSON; 200 when ok, else 503.
/// @param health  called on a thread of the server; must be thread-safe and quick.
HttpRoute HealthRoute(std::function<Health()> health);

}  // namespace imageddpo
