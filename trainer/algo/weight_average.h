#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace imageddpo {

/// An exponential moving average of a LoRA's values over its updates (averaging after Polyak and
/// Juditsky, 1992, with weights that fall exponentially). With s updates done:
///
///   s <= warmup_updates   average = values
///   else                  average = decay · average + (1 - decay) · values
///
/// float32, element by element, so equal values give equal bits. Thread-compatible.
class WeightAverage {
 public:
  /// @param decay    in [0, 1). @param start_P  float32; owned from then on.
  WeightAverage(double decay, int64_t warmup_updates, at::Tensor start_P);

  /// After an update that took its step.
  /// @param values_P  float32, owned from then on. @param updates  s, this one included.
  void Update(at::Tensor values_P, int64_t updates);

  const at::Tensor& values() const { return average_P_; }  ///< [P] float32.
  /// Goes on from these values, which are copied.
  void Restore(const at::Tensor& values_P);

 private:
  double decay_;
  int64_t warmup_updates_;
  at::Tensor average_P_;
};

}  // namespace imageddpo
