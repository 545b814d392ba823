#include "common/trajectory/schedule/update_schedule.h"

#include <algorithm>
#include <set>

#include "common/diffusion/keyed_noise.h"

namespace imageddpo {

UpdateSchedule::UpdateSchedule(const JobPlan& plan, uint64_t seed, int64_t num_inner_epochs,
                               int num_trainers)
    : plan_(plan), seed_(seed), num_inner_epochs_(num_inner_epochs), num_trainers_(num_trainers) {}

std::vector<int64_t> UpdateSchedule::MicroBatches(int64_t epoch, int64_t inner_epoch,
                                                  int64_t update) const {
  const std::vector<int64_t> order =
      KeyedPermutation({.seed = seed_,
                        .purpose = StreamPurpose::kShuffle,
                        .epoch = static_cast<uint64_t>(epoch),
                        .sample = static_cast<uint64_t>(inner_epoch)},
                       plan_.micro_batches_per_epoch);
  const auto begin = order.begin() + update * plan_.micro_batches_per_update;
  std::vector<int64_t> micro_batches(begin, begin + plan_.micro_batches_per_update);
  std::sort(micro_batches.begin(), micro_batches.end());
  return micro_batches;
}

int UpdateSchedule::OwnerOfShard(int64_t shard) const {
  return plan_.OwnerOfShard(shard, num_trainers_);
}

int UpdateSchedule::SamplerOf(int64_t micro_batch, int num_rollout) const {
  // One update takes all micro-batches, in their order: positions are indices.
  if (plan_.single_pass) return OwnerOfShard(plan_.ShardOf(micro_batch));
  return static_cast<int>(micro_batch % num_rollout);
}

std::vector<std::vector<bool>> UpdateSchedule::LatentsNeeded(int64_t epoch) const {
  std::vector<std::vector<bool>> needed(num_trainers_,
                                        std::vector<bool>(plan_.micro_batches_per_epoch, false));
  if (plan_.single_pass) return needed;
  for (int64_t inner = 0; inner < num_inner_epochs_; ++inner) {
    for (int64_t update = 0; update < plan_.updates_per_inner_epoch; ++update) {
      const std::vector<int64_t> micro_batches = MicroBatches(epoch, inner, update);
      for (size_t p = 0; p < micro_batches.size(); ++p) {
        needed[OwnerOfShard(plan_.ShardOf(static_cast<int64_t>(p)))][micro_batches[p]] = true;
      }
    }
  }
  return needed;
}

std::vector<int64_t> UpdateSchedule::ReplayedAfterFirstUpdate(int64_t epoch, int trainer) const {
  std::set<int64_t> replayed;
  for (int64_t inner = 0; inner < num_inner_epochs_; ++inner) {
    for (int64_t update = inner == 0 ? 1 : 0; update < plan_.updates_per_inner_epoch; ++update) {
      const std::vector<int64_t> micro_batches = MicroBatches(epoch, inner, update);
      for (size_t p = 0; p < micro_batches.size(); ++p) {
        const int64_t shard = plan_.ShardOf(static_cast<int64_t>(p));
        if (OwnerOfShard(shard) == trainer) replayed.insert(micro_batches[p]);
      }
    }
  }
  return {replayed.begin(), replayed.end()};
}

}  // namespace imageddpo
