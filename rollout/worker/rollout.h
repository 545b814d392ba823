#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/config/job_plan.h"
#include "common/diffusion/noise.h"
#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/trajectory/trajectory.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "rollout/data/dataset.h"
#include "rollout/data/order.h"
#include "rollout/reward/weighted_rewards.h"
#include "rollout/sampler/sampler.h"
#include "rollout/worker/prompts.h"

namespace imageddpo {

/// One rollout rank: images and prompts in, scored trajectories out, under the LoRA that is bound
/// to the pipeline's UNet at the time of the call. What a sample is depends on (job seed, epoch,
/// sample index) alone, never on the rank that makes it. Thread-compatible.
class Rollout {
 public:
  /// Opens the data, the held-out data and the rewards and checks them against each other and the
  /// model. @param pipeline  with all parts; outlives this.
  /// @return INVALID_ARGUMENT or NOT_FOUND naming file, line, example or setting.
  static absl::StatusOr<std::unique_ptr<Rollout>> Create(const v1::JobSpec& job,
                                                         const JobPlan& plan,
                                                         const Pipeline& pipeline,
                                                         at::Device device);

  /// Samples and scores one micro-batch.
  /// @param keep_pictures  attach PNGs of its first samples' inputs and outputs.
  /// @throws what the models throw
  absl::StatusOr<TrajectoryBatch> Sample(int64_t epoch, int64_t micro_batch, int64_t weight_version,
                                         bool keep_pictures);

  int64_t num_eval_images() const;  ///< 0: the job has no held-out data.
  int64_t num_eval_batches() const;

  /// Img2img of one batch of held-out images under noise that is a function of eval.seed and the
  /// image's index alone.
  absl::StatusOr<v1::EvalBatch> Evaluate(int64_t batch, int64_t weight_version);

 private:
  struct Drawn;  ///< A batch of inputs.
  Rollout(const v1::JobSpec& job, const JobPlan& plan, const Pipeline& pipeline,
          const Schedule& schedule, at::Device device);
  absl::Status OpenData();
  absl::StatusOr<Drawn> Draw(const Dataset& dataset, const std::vector<int64_t>& examples,
                             const std::function<StreamKey(StreamPurpose, int64_t)>& key_of);
  absl::StatusOr<WeightedOutput> Score(const Drawn& drawn, const SampledTrajectories& sampled);

  v1::JobSpec job_;
  JobPlan plan_;
  const Pipeline& pipeline_;
  at::Device device_;
  Policy policy_;
  Schedule schedule_;
  int64_t resolution_ = 0;
  std::unique_ptr<Dataset> data_;
  std::unique_ptr<Dataset> eval_data_;
  std::unique_ptr<ExampleOrder> order_;
  std::unique_ptr<WeightedRewards> rewards_;
  std::unique_ptr<PromptCache> prompts_;
};

}  // namespace imageddpo
