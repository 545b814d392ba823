#pragma once

#include <ATen/core/Tensor.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "common/config/job_plan.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/trajectory.h"

namespace imageddpo {

/// The floating-point operations that an epoch cannot do without, and what they are measured
/// against. Sampling counts, and decoding, and the update that the job has; encoding does not,
/// since images are encoded once, nor do rewards.
struct EpochWork {
  double forward = 0;     ///< Of one row and step through the UNet and its LoRA.
  double backward = 0;    ///< Of the same, to the LoRA's gradients.
  double decode = 0;      ///< Of one image.
  int64_t num_steps = 0;  ///< Executed.
  int64_t replays = 0;    ///< Forward and backward passes besides the rollout: inner epochs.
  bool guided = false;    ///< Two rows, where a sample's two prompts differ.
  double peak_flops = 0;  ///< Per second, of all ranks of the gang together.

  /// Of an epoch with these records, whichever ranks do it.
  double Flops(int64_t epoch, const std::vector<TrajectoryBatch>& batches) const;
};

/// Counts for a job on one rank and measures what that rank can do; all ranks of the gang are taken
/// to be alike. Intra-op threads must have been set.
/// @param num_steps  executed.
absl::StatusOr<EpochWork> MakeEpochWork(const v1::JobSpec& job, const JobPlan& plan,
                                        const Lora& lora, int64_t num_steps, int num_ranks,
                                        at::Device device);

}  // namespace imageddpo
