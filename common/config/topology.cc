#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_plan.h"

namespace imageddpo {

std::string Topology::ToString() const {
  return colocated ? absl::StrCat("colocated ", rollout)
                   : absl::StrCat("rollout ", rollout, ", trainer ", trainer);
}

absl::StatusOr<Topology> ResolveTopology(const v1::JobSpec& job, int pool_size) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const JobPlan plan, MakeJobPlan(job));
  if (pool_size < 1) {
    return absl::FailedPreconditionError("the pool has no worker; start more ranks");
  }
  const v1::TopologySpec& spec = job.topology();
  Topology topology;
  if (spec.has_colocated()) {
    topology.colocated = true;
    topology.rollout = topology.trainer = static_cast<int>(spec.colocated());
  } else if (spec.has_rollout() || spec.has_trainer()) {
    topology.rollout = static_cast<int>(spec.rollout());
    topology.trainer = static_cast<int>(spec.trainer());
  } else if (pool_size == 1) {
    topology.colocated = true;
    topology.rollout = topology.trainer = 1;
  } else {
    topology.trainer = 1;
    topology.rollout =
        static_cast<int>(std::min<int64_t>(pool_size - 1, plan.micro_batches_per_epoch));
  }
  if (topology.ranks() > pool_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        "`topology` asks for ", topology.ranks(), " workers (", topology.ToString(),
        "), but the pool has ", pool_size,
        "; use `topology: auto`, ask for fewer, or start the service with more ranks"));
  }
  return topology;
}

v1::GangLayout MakeGangLayout(const Topology& topology, const std::vector<int>& world_ranks,
                              const std::string& tag) {
  v1::GangLayout gang;
  gang.set_tag(tag);
  for (const int world_rank : world_ranks) gang.add_world_ranks(world_rank);
  for (int i = 0; i < topology.rollout; ++i) gang.add_rollout(i);
  const int first_trainer = topology.colocated ? 0 : topology.rollout;
  for (int i = 0; i < topology.trainer; ++i) gang.add_trainer(first_trainer + i);
  return gang;
}

}  // namespace imageddpo
