#include "trainer/algo/weight_average.h"

#include <utility>

namespace imageddpo {

WeightAverage::WeightAverage(double decay, int64_t warmup_updates, at::Tensor start_P)
    : decay_(decay), warmup_updates_(warmup_updates), average_P_(std::move(start_P)) {}

void WeightAverage::Update(at::Tensor values_P, int64_t updates) {
  if (updates <= warmup_updates_) {
    average_P_ = std::move(values_P);
  } else {
    average_P_.lerp_(values_P, 1.0 - decay_);
  }
}

void WeightAverage::Restore(const at::Tensor& values_P) { average_P_.copy_(values_P); }

}  // namespace imageddpo
