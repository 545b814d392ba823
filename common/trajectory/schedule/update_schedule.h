#pragma once

#include <cstdint>
#include <vector>

#include "common/config/job_plan.h"

namespace imageddpo {

/// Which micro-batches form which update, and which trainer computes their gradients. A function of
/// the job's plan, seed and number of inner epochs, of the epoch and of the number of trainers
/// alone, so rollout ranks know in advance where to send latents. The shuffle permutes whole
/// micro-batches: their composition stays that of the rollout, so that a replay has the same bits.
/// Immutable.
class UpdateSchedule {
 public:
  UpdateSchedule(const JobPlan& plan, uint64_t seed, int64_t num_inner_epochs, int num_trainers);

  /// The micro-batches of the epoch that update `update` of an inner epoch takes, ascending.
  std::vector<int64_t> MicroBatches(int64_t epoch, int64_t inner_epoch, int64_t update) const;

  /// The trainer that owns a gradient shard, as an index among the trainers. Each trainer owns a
  /// contiguous block of shards.
  int OwnerOfShard(int64_t shard) const;

  /// The rollout rank that samples a micro-batch, as an index among the rollout ranks: round-robin,
  /// or in a single pass the rank that owns the micro-batch's gradient shard.
  int SamplerOf(int64_t micro_batch, int num_rollout) const;

  /// needs[t][m]: whether trainer t replays micro-batch m in some inner epoch of `epoch`. All false
  /// in a single pass.
  std::vector<std::vector<bool>> LatentsNeeded(int64_t epoch) const;

  /// The micro-batches that `trainer` replays in any update but the epoch's first, ascending.
  std::vector<int64_t> ReplayedAfterFirstUpdate(int64_t epoch, int trainer) const;

 private:
  JobPlan plan_;
  uint64_t seed_;
  int64_t num_inner_epochs_;
  int num_trainers_;
};

}  // namespace imageddpo
