#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/lora/lora.h"
#include "imageddpo/v1/metrics.pb.h"
#include "trainer/algo/weight_average.h"
#include "trainer/loop/replay_update.h"

namespace imageddpo {

// The fields of StepStatistics in four parts; a mean's bits follow from the width of its part.
constexpr int64_t kStatisticsPerStep = 4, kSidesPerStep = 2, kStalenessPerStep = 4, kKlPerStep = 4;
static_assert(kNumbersPerStep ==
              kStatisticsPerStep + kSidesPerStep + kStalenessPerStep + kKlPerStep);

/// The statistics of an update's micro-batches by position, [num_micro,num_steps,kNumbersPerStep]
/// float64 on the CPU; zeros for those that another rank computes. Waits once.
/// @param numbers_of  by position: those that this rank computes.
at::Tensor ReadNumbers(const std::map<int64_t, at::Tensor>& numbers_of, int64_t num_micro,
                       int64_t num_steps);

/// @param kl_NK4  float64: StepStatistics' last four fields, in their order.
void SetKl(const TrustRegionSettings& region, const at::Tensor& kl_NK4, v1::EpochMetrics* metrics);

/// @param sample_age  none: the job's samples are always fresh.
/// @param means  [4] float64: means of StepStatistics' fields of staleness, in their order.
void SetRatios(std::optional<int64_t> sample_age, const at::Tensor& means,
               v1::EpochMetrics* metrics);

/// Sets the numbers that say how an epoch's rewards are spread.
/// @param rewards  of its samples; nothing is set where one is not finite or there are none.
void SetRewardSpread(const std::vector<double>& rewards, v1::EpochMetrics* metrics);

/// Sets the numbers of an epoch's advantages. @param advantages  of the samples that are kept, not
/// clamped. @param num_samples  kept and left out.
void SetAdvantageSpread(const std::vector<double>& advantages, size_t num_samples,
                        v1::EpochMetrics* metrics);

/// How far the updates of an epoch move a LoRA, and how far it is from its average. The norms stay
/// on the device until TakeInto(), so that an update does not wait for them. Thread-compatible.
class UpdateNorms {
 public:
  explicit UpdateNorms(const Lora& lora) : lora_(lora) {}

  /// Before an update: copies the LoRA.
  void Begin();
  /// After it. @param average  null: the job keeps none.
  void End(const WeightAverage* average);
  /// Sets the numbers of the updates since the last call. @param rows  one for each of them.
  void TakeInto(std::vector<v1::EpochMetrics>* rows);

 private:
  const Lora& lora_;
  at::Tensor before_P_;
  std::vector<at::Tensor> moved_;         ///< 0-d float32, by update.
  std::vector<at::Tensor> from_average_;  ///< The same; empty without an average.
};

}  // namespace imageddpo
