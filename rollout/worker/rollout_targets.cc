// What a rollout rank sends where the job learns from target images (train.objective: sft).

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/device/copies.h"
#include "common/diffusion/keyed_noise.h"
#include "rollout/worker/rollout.h"

namespace imageddpo {

absl::StatusOr<Rollout::Drawn> Rollout::DrawMicroBatch(int64_t epoch, int64_t micro_batch,
                                                       int64_t next) {
  const int64_t first = plan_.FirstSample(micro_batch);
  if (loading_.valid()) loading_.get();
  IMAGEDDPO_ASSIGN_OR_RETURN(
      Drawn drawn,
      Draw(data_, ExamplesOf(epoch, micro_batch), [&](StreamPurpose purpose, int64_t i) {
        return NoiseKey(purpose, epoch, first + i, /*attempt=*/0);
      }));
  if (next >= 0) StartLoading(ExamplesOf(epoch, next));
  return drawn;
}

TrajectoryBatch Rollout::RecordOf(const Drawn& drawn, int64_t epoch, int64_t micro_batch,
                                  int64_t weight_version) const {
  TrajectoryBatch batch;
  batch.epoch = epoch;
  batch.micro_batch = micro_batch;
  batch.first_sample = plan_.FirstSample(micro_batch);
  batch.weight_version = weight_version;
  batch.prompts = drawn.prompts;
  for (const Example& example : drawn.examples) batch.image_ids.push_back(example.id);
  batch.keys = drawn.encoded.keys;
  batch.new_embeddings = drawn.encoded.embeddings_LD;
  return batch;
}

absl::StatusOr<TrajectoryBatch> Rollout::NoiseTargets(int64_t epoch, int64_t micro_batch,
                                                      int64_t weight_version, int64_t next) {
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  IMAGEDDPO_ASSIGN_OR_RETURN(const Drawn drawn, DrawMicroBatch(epoch, micro_batch, next));
  TrajectoryBatch batch = RecordOf(drawn, epoch, micro_batch, weight_version);
  const EpochSteps steps = steps_.Of(epoch, batch.first_sample);
  const int64_t b = batch.batch_size();
  std::vector<int64_t> timesteps;
  for (int64_t i = 0; i < b; ++i) {
    KeyedStream stream({.seed = job_.spec().seed(),
                        .purpose = StreamPurpose::kSftTimestep,
                        .epoch = static_cast<uint64_t>(epoch),
                        .sample = static_cast<uint64_t>(batch.first_sample + i),
                        .generation = static_cast<uint32_t>(job_.guards().rollbacks)});
    const int64_t k = steps.trained[stream.NextBelow(steps.trained.size())];
    timesteps.push_back(data_.schedule.timesteps[k]);
  }
  const at::Tensor timesteps_B = at::tensor(timesteps, at::kLong);
  const SamplerInputs& inputs = drawn.inputs;
  const std::vector<at::Tensor> posterior =
      ReadTogether(std::vector{inputs.posterior.mean_BCHW, inputs.posterior.std_BCHW});
  const at::Tensor x0_BCHW = (posterior[0] + posterior[1] * inputs.encode_noise_BCHW) *
                             pipeline_->vae->config().scaling_factor;
  const StepRule& rule = *pipeline_->step_rule;
  batch.latents = at::stack({rule.AddNoise(x0_BCHW, inputs.init_noise_BCHW, timesteps_B),
                             rule.PredictionTarget(x0_BCHW, inputs.init_noise_BCHW, timesteps_B)},
                            1);
  batch.timesteps_BK = timesteps_B.unsqueeze(1).contiguous();
  batch.log_probs_BK = at::zeros({b, 1}, at::kFloat);
  batch.rewards_B = at::zeros({b}, at::kDouble);
  batch.parts_BP = at::empty({b, 0}, at::kDouble);
  batch.sample_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return batch;
}

}  // namespace imageddpo
