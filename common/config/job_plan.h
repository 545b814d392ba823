#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "imageddpo/v1/control.pb.h"
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

  int64_t FirstSample(int64_t micro_batch) const { return micro_batch * device_batch_size; }

  /// [begin, end) of the positions among an update's micro-batches that form gradient shard v.
  std::pair<int64_t, int64_t> ShardRange(int64_t shard) const;
  /// The shard of position p among an update's micro-batches.
  int64_t ShardOf(int64_t position) const;
  /// The trainer (index among so many) that owns a gradient shard; contiguous blocks of shards.
  int OwnerOfShard(int64_t shard, int num_trainers) const;
  /// The largest number of an update's samples that any of `num_trainers` trainers gets.
  int64_t MostSamplesOfATrainer(int64_t num_trainers) const;
};

/// K: the number of steps that are run for `sample.num_steps` and `sample.noise_strength`.
int64_t ExecutedSteps(const v1::SampleSpec& sample);

/// @param job  defaults filled in.
/// @return INVALID_ARGUMENT where a division leaves a remainder, naming both settings and values
/// that would do.
absl::StatusOr<JobPlan> MakeJobPlan(const v1::JobSpec& job);

/// The largest micro-batches that `device.device_batch_size: auto` chooses. Larger ones are not
/// faster, take more memory, and leave fewer micro-batches to distribute among ranks. A GPU needs
/// more samples than a CPU to be busy.
inline constexpr int64_t kMostSamplesOnCpu = 32;
inline constexpr int64_t kMostSamplesOnGpu = 128;

/// The candidates for `device.device_batch_size: auto`, largest first: the common divisors of
/// sample.batch_size and train.batch_size up to `most`. If none is above half of `most` (for
/// example of 37), the next larger divisor comes before them. Never empty.
std::vector<int64_t> AutoDeviceBatches(const v1::JobSpec& job, int64_t most);

/// Why a job cannot train with a single pass: it would not be exact (an update under other weights
/// than those that sampled), or the ranks that sample do not train. Empty if it can.
std::string WhyNoSinglePass(const v1::JobSpec& job, const JobPlan& plan);

/// Replaces `train.update: auto` by single_pass or replay, from the job's settings alone:
/// single_pass if the job names `topology: {colocated: C}`, it would be exact, and a rank's
/// gradients stay small. Never depends on the pool, so that the same job gives the same bits in any
/// pool. To be called once, at submit. Does nothing if the batch settings do not fit.
void ResolveUpdate(v1::JobSpec* job);

/// How many ranks a job takes. `auto` fits the pool: colocated 1 for one worker; otherwise one
/// trainer and the rest rollout (at most the epoch's micro-batches). A topology that was asked for
/// shrinks to a smaller pool if `topology.min_*` allows it.
struct Topology {
  int rollout = 0;
  int trainer = 0;
  bool colocated = false;  ///< Then rollout == trainer == number of ranks.
  int ranks() const { return colocated ? rollout : rollout + trainer; }
  std::string ToString() const;  ///< "rollout 1, trainer 1" | "colocated 1"
};

/// @return FAILED_PRECONDITION naming the pool's size where the job does not fit it.
absl::StatusOr<Topology> ResolveTopology(const v1::JobSpec& job, int pool_size);

/// The gang over the given world ranks: rollout ranks first, then trainers.
v1::GangLayout MakeGangLayout(const Topology& topology, const std::vector<int>& world_ranks,
                              const std::string& tag);

}  // namespace imageddpo
