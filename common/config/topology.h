#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "common/config/resolved_job.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// How many ranks a job takes. `auto` fits the pool: colocated 1 for one worker, and for a job
/// without epochs; otherwise one trainer and the rest rollout (at most the epoch's micro-batches).
/// A topology that was asked for shrinks to a smaller pool if `topology.min_*` allows it.
struct Topology {
  int rollout = 0;
  int trainer = 0;
  bool colocated = false;  ///< Then rollout == trainer == number of ranks.
  int ranks() const { return colocated ? rollout : rollout + trainer; }
  std::string ToString() const;  ///< "rollout 1, trainer 1" | "colocated 1"
};

/// @return FAILED_PRECONDITION naming the pool's size where the job does not fit it.
absl::StatusOr<Topology> ResolveTopology(const ResolvedJob& job, int pool_size);

/// The job with this topology asked for; `train.update: auto` is resolved for it.
absl::StatusOr<ResolvedJob> WithTopology(const ResolvedJob& job, const Topology& topology);

/// The gang over the given world ranks: rollout ranks first, then trainers.
v1::GangLayout MakeGangLayout(const Topology& topology, const std::vector<int>& world_ranks,
                              const std::string& tag);

}  // namespace imageddpo
