#pragma once

#include <absl/types/span.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/metrics/names.h"
#include "imageddpo/v1/metrics.pb.h"

namespace imageddpo {

/// How an epoch's value of a number comes from those of its updates.
enum class Aggregate {
  kFirst,     ///< That of its first update.
  kMean,      ///< The mean over its updates.
  kMax,       ///< The largest over its updates.
  kLast,      ///< That of its last update.
  kOfUpdate,  ///< There is none: the number says something of an update alone.
  kOfEpoch,   ///< Updates have none: the number says something of the epoch alone.
};

/// One field of v1.EpochMetrics.
struct EpochMetric {
  std::string_view field;
  Aggregate aggregate;
  metric::Info info;  ///< As Prometheus shows it; without a name where it does not.
};

/// Every field of v1.EpochMetrics, in the order of a row of metrics.jsonl.
absl::Span<const EpochMetric> EpochMetricTable();

/// The numbers of an epoch from those of its updates, by the table; those that only an epoch has
/// are not set. @param updates  at least one; all of one epoch, in their order.
v1::EpochMetrics OfUpdates(const std::vector<v1::EpochMetrics>& updates);

/// A row of metrics.jsonl: the numbers of an update that are set, in the table's order. The same
/// bytes for the same numbers.
nlohmann::ordered_json RowOf(const v1::EpochMetrics& update);

/// Calls `use(label, value)` for each value of a field that is set: once, with an empty label, or
/// for each entry of a map, with its key.
void ForEachValue(const v1::EpochMetrics& metrics, const EpochMetric& metric,
                  const std::function<void(const std::string&, double)>& use);

/// An epoch in a line for people: "epoch 12 of 80: reward 1.25 (spread 0.5), ...".
std::string EpochLine(const v1::EpochMetrics& epoch, int64_t num_epochs);

/// Every metric that the service exports.
std::vector<const metric::Info*> AllMetrics();

}  // namespace imageddpo
