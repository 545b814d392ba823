#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics/names.h"

namespace imageddpo {

/// The series of one metric that share some labels, told apart by the values of at most one more
/// label. A series is made when it is first used and its handle kept; the destructor removes them
/// all from the family. Thread-safe.
template <typename Metric>
class Series {
 public:
  /// @param own_labels  labels that all the series share.
  /// @param varying     the one other label; empty: a single series.
  Series(prometheus::Registry& registry, const metric::Info& info, prometheus::Labels own_labels,
         std::string varying = "");
  ~Series();

  Series(const Series&) = delete;
  Series& operator=(const Series&) = delete;

  /// The series of one value of the varying label. The reference holds until Remove() or Clear().
  Metric& At(const std::string& value = "");
  void Remove(const std::string& value);
  void Clear();

 private:
  prometheus::Family<Metric>& family_;
  const prometheus::Labels own_labels_;
  const std::string varying_;
  absl::Mutex mutex_;
  std::map<std::string, Metric*> handles_ ABSL_GUARDED_BY(mutex_);
};

extern template class Series<prometheus::Gauge>;
extern template class Series<prometheus::Counter>;

using GaugeSeries = Series<prometheus::Gauge>;
using CounterSeries = Series<prometheus::Counter>;

}  // namespace imageddpo
