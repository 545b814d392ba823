#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/lora/lora.h"
#include "imageddpo/v1/metrics.pb.h"
#include "trainer/algo/weight_average.h"

namespace imageddpo {

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
