#include "common/trajectory/schedule/step_schedule.h"

#include <algorithm>
#include <numeric>

#include "common/diffusion/keyed_noise.h"

namespace imageddpo {

EpochSteps StepSchedule::Of(int64_t epoch, int64_t first_sample) const {
  int64_t begin = 0, size = steps_.executed;
  if (steps_.window) {
    const StepWindow& window = *steps_.window;
    const int64_t places = steps_.executed - window.size + 1;
    begin = (window.start + window.stride * (epoch / window.every_epochs)) % places;
    size = window.size;
  }
  EpochSteps steps{.random_begin = 0, .random_end = steps_.executed};
  if (steps_.window_is_random) {
    steps.random_begin = begin;
    steps.random_end = begin + size;
  }
  if (steps_.trained == size) {
    steps.trained.resize(static_cast<size_t>(size));
    std::iota(steps.trained.begin(), steps.trained.end(), begin);
    return steps;
  }
  const std::vector<int64_t> order =
      KeyedPermutation({.seed = seed_,
                        .purpose = StreamPurpose::kTrainedSteps,
                        .epoch = static_cast<uint64_t>(epoch),
                        .sample = static_cast<uint64_t>(first_sample)},
                       size);
  for (int64_t i = 0; i < steps_.trained; ++i) steps.trained.push_back(begin + order[i]);
  std::sort(steps.trained.begin(), steps.trained.end());
  return steps;
}

}  // namespace imageddpo
