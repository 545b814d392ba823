#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "common/config/resolved_job.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// How many ranks a job takes, and what they do.
struct Topology {
  int rollout = 0;
  int trainer = 0;
  bool colocated = false;  ///< Then rollout == trainer == number of ranks.
  int ranks() const { return colocated ? rollout : rollout + trainer; }
  std::string ToString() const;  ///< "rollout 1, trainer 1" | "colocated 1"
  bool operator==(const Topology&) const = default;
};

/// Whether a job leaves its topology to the cost model: common/plan/choose.h.
bool IsAuto(const v1::TopologySpec& topology);

/// The topology that a job names; in a smaller pool, a smaller one if `topology.min_*` allows it.
/// @param job  its topology is not `auto`.
/// @return FAILED_PRECONDITION naming the pool's size where the job does not fit it.
absl::StatusOr<Topology> NamedTopology(const ResolvedJob& job, int pool_size);

/// The job with this topology asked for; `train.update: auto` is resolved for it.
absl::StatusOr<ResolvedJob> WithTopology(const ResolvedJob& job, const Topology& topology);

/// The gang over the given world ranks: rollout ranks first, then trainers.
v1::GangLayout MakeGangLayout(const Topology& topology, const std::vector<int>& world_ranks,
                              const std::string& tag);

}  // namespace imageddpo
