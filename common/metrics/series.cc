#include "common/metrics/series.h"

#include <type_traits>
#include <utility>

namespace imageddpo {
namespace {

template <typename Metric>
prometheus::Family<Metric>& RegisterFamily(prometheus::Registry& registry,
                                           const metric::Info& info) {
  if constexpr (std::is_same_v<Metric, prometheus::Gauge>) {
    return prometheus::BuildGauge()
        .Name(std::string(info.name))
        .Help(std::string(info.help))
        .Register(registry);
  } else {
    return prometheus::BuildCounter()
        .Name(std::string(info.name))
        .Help(std::string(info.help))
        .Register(registry);
  }
}

}  // namespace

template <typename Metric>
Series<Metric>::Series(prometheus::Registry& registry, const metric::Info& info,
                       prometheus::Labels own_labels, std::string varying)
    : family_(RegisterFamily<Metric>(registry, info)),
      own_labels_(std::move(own_labels)),
      varying_(std::move(varying)) {}

template <typename Metric>
Series<Metric>::~Series() {
  Clear();
}

template <typename Metric>
Metric& Series<Metric>::At(const std::string& value) {
  absl::MutexLock lock(&mutex_);
  auto [it, is_new] = handles_.try_emplace(value, nullptr);
  if (is_new) {
    prometheus::Labels labels = own_labels_;
    if (!varying_.empty()) labels.emplace(varying_, value);
    it->second = &family_.Add(labels);
  }
  return *it->second;
}

template <typename Metric>
void Series<Metric>::Remove(const std::string& value) {
  absl::MutexLock lock(&mutex_);
  const auto it = handles_.find(value);
  if (it == handles_.end()) return;
  family_.Remove(it->second);
  handles_.erase(it);
}

template <typename Metric>
void Series<Metric>::Clear() {
  absl::MutexLock lock(&mutex_);
  for (const auto& [value, handle] : handles_) family_.Remove(handle);
  handles_.clear();
}

template class Series<prometheus::Gauge>;
template class Series<prometheus::Counter>;

}  // namespace imageddpo
