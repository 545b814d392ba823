#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// The arithmetic of a job that follows from its settings alone: who does what is the same whatever
/// the number of ranks. All counts are samples, updates or micro-batches of one epoch.
struct JobPlan {
  int64_t samples_per_epoch = 0;   ///< sample.batch_size × sample.num_batches_per_epoch
  int64_t samples_per_update = 0;  ///< train.batch_size × train.gradient_accumulation_steps
  int64_t device_batch_size = 0;   ///< Samples of a micro-batch; divides samples_per_update.
  int64_t micro_batches_per_epoch = 0;
  int64_t micro_batches_per_update = 0;
  int64_t updates_per_inner_epoch = 0;
  int64_t gradient_shards = 0;  ///< V: fixed partial sums of an update's gradient.
  bool single_pass = false;     ///< The rollout collects the gradients; else the update replays it.
  int64_t group_size = 1;  ///< Samples in a row that share an image; divides samples_per_epoch.

  int64_t FirstSample(int64_t micro_batch) const { return micro_batch * device_batch_size; }

  /// The group of a sample. A group may lie in several micro-batches and updates: its samples meet
  /// only where the epoch's rewards become advantages, which every trainer does for all of them.
  int64_t GroupOf(int64_t sample) const { return sample / group_size; }

  /// [begin, end) of the positions among an update's micro-batches that form gradient shard v.
  std::pair<int64_t, int64_t> ShardRange(int64_t shard) const;
  /// The shard of position p among an update's micro-batches.
  int64_t ShardOf(int64_t position) const;
  /// The trainer (index) that owns a gradient shard; contiguous blocks of shards.
  int OwnerOfShard(int64_t shard, int num_trainers) const;
  /// The largest number of an update's samples that any of `num_trainers` trainers gets.
  int64_t MostSamplesOfATrainer(int64_t num_trainers) const;
};

/// Whether the job evaluates held-out images.
inline bool HasHeldOutImages(const v1::JobSpec& job) {
  return !job.eval().path().empty() || !job.eval().files().empty();
}

/// The largest micro-batches that `device.device_batch_size: auto` chooses. Larger ones are not
/// faster, take more memory, and leave fewer micro-batches to distribute among ranks. A GPU needs
/// more samples than a CPU to be busy.
inline constexpr int64_t kMostSamplesOnCpu = 32;
inline constexpr int64_t kMostSamplesOnGpu = 128;

/// Index in a schedule of num_steps of the first step that is run for a noise strength:
/// clamp(int(num_steps·(1 - noise_strength)), 0, num_steps - 1). The product is truncated in
/// double: another precision or order of operations shifts some schedules by a step.
/// @param num_steps       at least 1.
/// @param noise_strength  in [0, 1].
inline int64_t FirstExecutedStep(int64_t num_steps, double noise_strength) {
  const auto start = static_cast<int64_t>(static_cast<double>(num_steps) * (1.0 - noise_strength));
  return std::clamp<int64_t>(start, 0, num_steps - 1);
}

}  // namespace imageddpo
