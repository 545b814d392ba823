#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <string_view>
#include <vector>

namespace imageddpo {

inline constexpr char kOpenMetricsType[] =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a client that sends this Accept header wants OpenMetrics 1.0 at least as much as
/// Prometheus' older text format. Without a header it does not.
bool WantsOpenMetrics(std::string_view accept);

/// Families of counters, gauges and histograms as OpenMetrics 1.0. prometheus-cpp writes only the
/// older format, from which this differs in that the family of a counter is named without `_total`,
/// bounds of histograms are floats ("1.0"), and the last line is "# EOF".
std::string OpenMetricsText(const std::vector<prometheus::MetricFamily>& families);

}  // namespace imageddpo
