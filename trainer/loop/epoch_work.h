#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/trajectory.h"

namespace imageddpo {

/// The floating-point operations that an epoch needs, and the peak speed, the denominator of MFU.
/// Sampling, decoding and the job's update are counted; encoding (done once per image) and
/// rewards are not.
struct EpochWork {
  double forward = 0;      ///< One row, one step, through the UNet and its LoRA.
  double backward = 0;     ///< The same, backward to the LoRA's gradients.
  double decode = 0;       ///< One image.
  int64_t num_steps = 0;   ///< Executed; how many of them are trained, the records say.
  int64_t replays = 0;     ///< Forward and backward passes besides the rollout: inner epochs.
  int64_t base_steps = 0;  ///< ResolvedJob::base_steps().
  bool guided = false;     ///< Two rows for a sample whose two prompts differ.
  double peak_flops = 0;   ///< Per second, of all ranks of the gang together.

  /// Operations of an epoch with these records, over all ranks.
  double Flops(int64_t epoch, const std::vector<TrajectoryBatch>& batches) const;
};

/// Counts the operations of a job and measures this rank's speed, assuming that all ranks of the
/// gang are alike. The number of intra-op threads must have been set.
/// @param num_steps  executed steps.
absl::StatusOr<EpochWork> MakeEpochWork(const ResolvedJob& job, const Lora& lora, int64_t num_steps,
                                        int num_ranks, at::Device device);

}  // namespace imageddpo
