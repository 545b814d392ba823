#pragma once

#include <cstdint>
#include <vector>

#include "common/config/job_plan.h"

namespace imageddpo {

/// Which micro-batches form which update, and which trainer replays them: a function of (seed,
/// epoch) and the number of trainers alone, so that rollout ranks know where to send latents before
/// they exist. Micro-batches are shuffled whole: their composition stays that of the rollout, which
/// is what makes a replay bit-equal.
class UpdateSchedule {
 public:
  UpdateSchedule(const JobPlan& plan, uint64_t seed, int64_t num_inner_epochs, int num_trainers);

  /// The epoch's micro-batches that update `u` of an inner epoch takes, ascending.
  std::vector<int64_t> MicroBatches(int64_t epoch, int64_t inner_epoch, int64_t update) const;

  /// The trainer (index among the trainers) that owns a gradient shard; contiguous blocks of
  /// shards.
  int OwnerOfShard(int64_t shard) const;

  /// The rollout rank (index among them) that samples a micro-batch: in turn; in a single pass the
  /// rank that owns its gradient shard.
  int SamplerOf(int64_t micro_batch, int num_rollout) const;

  /// needs[t][m]: trainer t replays micro-batch m in some inner epoch of `epoch`; none in a single
  /// pass.
  std::vector<std::vector<bool>> LatentsNeeded(int64_t epoch) const;

  /// The micro-batches that `trainer` replays in another than the epoch's first update, ascending.
  std::vector<int64_t> ReplayedAfterFirstUpdate(int64_t epoch, int trainer) const;

 private:
  JobPlan plan_;
  uint64_t seed_;
  int64_t num_inner_epochs_;
  int num_trainers_;
};

}  // namespace imageddpo
