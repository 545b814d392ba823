#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/config/job_plan.h"
#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/trajectory.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// A job for SmallModel, complete: 5 micro-batches of 2 samples and 2 steps, in one update of 4
/// gradient shards. Tests change what they are about.
v1::JobSpec SmallJob();

/// The demo's UNet with a LoRA that does something; all that are made have the same values.
class SmallModel {
 public:
  SmallModel();

  /// Refers to this model. @param job  SmallJob() with another guidance, at most.
  Policy MakePolicy(const v1::JobSpec& job) const;

  Pipeline pipeline;  ///< UNet and scheduler.
  Lora lora;
};

/// What the rollout ranks send for an epoch under the LoRA that the policy has now, by micro-batch:
/// a function of the arguments alone. Prompts, images and rewards repeat every few samples; each
/// record brings the embeddings of its prompts.
/// @param channels, text_width  of the policy's denoiser.
/// @param denoiser  the policy's; needed where the job's loss compares with the base model.
std::vector<TrajectoryBatch> SampleEpoch(const Policy& policy, int64_t channels, int64_t text_width,
                                         const v1::JobSpec& job, int64_t epoch, int64_t version,
                                         Denoiser* denoiser = nullptr);
/// The same with the model's policy.
std::vector<TrajectoryBatch> SampleEpoch(const SmallModel& model, const v1::JobSpec& job,
                                         int64_t epoch, int64_t version);

/// Runs `work` for every index below `count`, each on a thread of its own, and waits for all. What
/// they throw fails the test.
void RunOnThreads(int count, const std::function<void(int index)>& work);

}  // namespace imageddpo
