#pragma once

#include <cstdint>
#include <vector>

#include "common/config/resolved_job.h"

namespace imageddpo {

/// What becomes of the executed steps of a micro-batch, counted from 0.
struct EpochSteps {
  /// [random_begin, random_end): the steps that draw noise; the others are deterministic.
  int64_t random_begin = 0, random_end = 0;
  std::vector<int64_t> trained;  ///< Ascending; all of them draw noise.

  bool is_random(int64_t k) const { return k >= random_begin && k < random_end; }
};

/// Which steps of an epoch are random and which are trained. A function of the job's settings and
/// seed, of the epoch and of the micro-batch, never of a rank. The samples of a micro-batch have
/// the same steps: the UNet then sees what it saw in the rollout, in the same memory layout, and a
/// replay has the same bits. Immutable.
class StepSchedule {
 public:
  StepSchedule(const StepSettings& steps, uint64_t seed) : steps_(steps), seed_(seed) {}

  /// @param first_sample  of the micro-batch, in the epoch.
  EpochSteps Of(int64_t epoch, int64_t first_sample) const;

 private:
  StepSettings steps_;
  uint64_t seed_;
};

}  // namespace imageddpo
