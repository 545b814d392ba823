// The noise of a rollout's samples, and drawing groups again whose rewards are all equal
// (advantage.zero_std: resample).

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "rollout/worker/rollout.h"

namespace imageddpo {
namespace {

/// By sample: whether every reward that is trained on has the same value for all samples of its
/// group that have a reward. Any weighted sum of them is then equal too.
std::vector<bool> AreInEqualGroups(const ResolvedJob& job, const TrajectoryBatch& batch) {
  std::vector<size_t> columns;
  for (const RewardConfig& reward : job.rewards()) {
    if (!reward.is_trained()) continue;
    const auto found = std::find(batch.part_names.begin(), batch.part_names.end(),
                                 absl::StrCat(reward.name, ".value"));
    if (found == batch.part_names.end()) continue;
    columns.push_back(static_cast<size_t>(found - batch.part_names.begin()));
  }
  const auto* parts = batch.parts_BP.const_data_ptr<double>();
  const auto* rewards = batch.rewards_B.const_data_ptr<double>();
  const size_t num_parts = batch.part_names.size();
  const auto group_size = static_cast<size_t>(job.plan().group_size);
  std::vector<bool> are_equal(static_cast<size_t>(batch.batch_size()), true);
  for (size_t first = 0; first + group_size <= are_equal.size(); first += group_size) {
    std::vector<size_t> members;
    for (size_t i = first; i < first + group_size; ++i) {
      if (!std::isnan(rewards[i])) members.push_back(i);
    }
    for (const size_t column : columns) {
      for (const size_t i : members) {
        if (parts[i * num_parts + column] == parts[members.front() * num_parts + column]) continue;
        for (size_t mate = first; mate < first + group_size; ++mate) are_equal[mate] = false;
      }
    }
  }
  return are_equal;
}

}  // namespace

int64_t Rollout::NoiseSample(StreamPurpose purpose, int64_t sample) const {
  const bool is_shared =
      job_.spec().sample().same_init_noise() && purpose != StreamPurpose::kStepNoise;
  return is_shared ? plan_.GroupOf(sample) * plan_.group_size : sample;
}

StreamKey Rollout::NoiseKey(StreamPurpose purpose, int64_t epoch, int64_t sample,
                            uint32_t attempt) const {
  return {.seed = job_.spec().seed(),
          .purpose = purpose,
          .epoch = static_cast<uint64_t>(epoch),
          .sample = static_cast<uint64_t>(NoiseSample(purpose, sample)),
          .generation = static_cast<uint32_t>(job_.guards().rollbacks),
          .attempt = attempt};
}

void Rollout::SetNoise(size_t count, const std::function<StreamKey(StreamPurpose, int64_t)>& key_of,
                       SamplerInputs* inputs) const {
  const PictureSize latent = size_.DividedBy(pipeline_->vae->config().downscale());
  const std::vector<int64_t> shape = {pipeline_->vae->config().latent_channels, latent.height,
                                      latent.width};
  const auto keys_of = [&](StreamPurpose purpose) {
    std::vector<StreamKey> keys;
    for (size_t i = 0; i < count; ++i) keys.push_back(key_of(purpose, static_cast<int64_t>(i)));
    return keys;
  };
  inputs->encode_noise_BCHW = KeyedNormals(keys_of(StreamPurpose::kEncodeNoise), shape);
  inputs->init_noise_BCHW = KeyedNormals(keys_of(StreamPurpose::kInitNoise), shape);
  inputs->step_noise = [shape, keys = keys_of(StreamPurpose::kStepNoise)](int64_t k) mutable {
    for (StreamKey& key : keys) key.step = static_cast<uint64_t>(k);
    return KeyedNormals(keys, shape);
  };
}

absl::StatusOr<TrajectoryBatch> Rollout::ResampleEqualGroups(const MicroBatch& of, Drawn* drawn,
                                                             WhenScored<TrajectoryBatch> first) {
  IMAGEDDPO_ASSIGN_OR_RETURN(TrajectoryBatch batch, std::move(first)());
  std::vector<uint32_t> attempts(static_cast<size_t>(batch.batch_size()), 0);
  for (int64_t left = job_.advantage().max_resamples; left > 0; --left) {
    const std::vector<bool> again = AreInEqualGroups(job_, batch);
    if (std::find(again.begin(), again.end(), true) == again.end()) break;
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < again.size(); ++i) attempts[i] += again[i] ? 1 : 0;
    SetNoise(
        attempts.size(),
        [&](StreamPurpose purpose, int64_t i) {
          return NoiseKey(purpose, of.epoch, batch.first_sample + i,
                          attempts[static_cast<size_t>(i)]);
        },
        &drawn->inputs);
    if (gradients_ != nullptr) gradients_->Take(of.number);  // Of the samples that are replaced.
    IMAGEDDPO_ASSIGN_OR_RETURN(WhenScored<TrajectoryBatch> next, SampleDrawn(of, *drawn, start));
    const double sample_seconds = batch.sample_seconds, reward_seconds = batch.reward_seconds;
    IMAGEDDPO_ASSIGN_OR_RETURN(batch, std::move(next)());
    batch.sample_seconds += sample_seconds;
    batch.reward_seconds += reward_seconds;
  }
  batch.part_names.push_back("group.resampled");
  const std::vector<double> resampled(attempts.begin(), attempts.end());
  batch.parts_BP =
      at::cat({batch.parts_BP, at::tensor(resampled, at::kDouble).unsqueeze(1)}, 1).contiguous();
  return batch;
}

}  // namespace imageddpo
