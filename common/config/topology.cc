#include "common/config/topology.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace imageddpo {

std::string Topology::ToString() const {
  return colocated ? absl::StrCat("colocated ", rollout)
                   : absl::StrCat("rollout ", rollout, ", trainer ", trainer);
}

namespace {

int AtLeast(bool is_set, int64_t minimum, int asked) {
  return is_set ? static_cast<int>(minimum) : asked;
}

/// Fits rollout and trainer ranks that were asked for into fewer, in about the same proportion.
void Shrink(const v1::TopologySpec& spec, int num_ranks, Topology* topology) {
  if (topology->colocated) {
    const int least = AtLeast(spec.has_min_colocated(), spec.min_colocated(), topology->rollout);
    topology->rollout = topology->trainer =
        std::clamp(num_ranks, least, std::max(least, topology->rollout));
    return;
  }
  const int min_rollout = AtLeast(spec.has_min_rollout(), spec.min_rollout(), topology->rollout);
  const int min_trainer = AtLeast(spec.has_min_trainer(), spec.min_trainer(), topology->trainer);
  if (num_ranks <= min_rollout + min_trainer) {
    topology->rollout = min_rollout;
    topology->trainer = min_trainer;
    return;
  }
  const int share = (num_ranks * topology->trainer + topology->ranks() / 2) / topology->ranks();
  const int asked_rollout = topology->rollout;
  topology->trainer = std::clamp(share, std::max(min_trainer, num_ranks - asked_rollout),
                                 std::min(topology->trainer, num_ranks - min_rollout));
  topology->rollout = num_ranks - topology->trainer;
}

}  // namespace

bool IsAuto(const v1::TopologySpec& topology) {
  return !topology.has_colocated() && !topology.has_rollout() && !topology.has_trainer();
}

absl::StatusOr<Topology> NamedTopology(const ResolvedJob& job, int pool_size) {
  if (pool_size < 1) {
    return absl::FailedPreconditionError("the pool has no worker; start more ranks");
  }
  const v1::TopologySpec& spec = job.spec().topology();
  Topology topology;
  if (spec.has_colocated()) {
    topology.colocated = true;
    topology.rollout = topology.trainer = static_cast<int>(spec.colocated());
  } else {
    topology.rollout = static_cast<int>(spec.rollout());
    topology.trainer = static_cast<int>(spec.trainer());
  }
  const Topology asked = topology;
  if (asked.ranks() > pool_size) Shrink(spec, pool_size, &topology);
  if (topology.ranks() > pool_size) {
    const std::string least =
        topology.ranks() < asked.ranks() ? absl::StrCat(", at least ", topology.ranks()) : "";
    return absl::FailedPreconditionError(absl::StrCat(
        "`topology` asks for ", asked.ranks(), " workers (", asked.ToString(), ")", least,
        ", but the pool has ", pool_size,
        "; use `topology: auto`, ask for fewer, or start the service with more ranks"));
  }
  return topology;
}

absl::StatusOr<ResolvedJob> WithTopology(const ResolvedJob& job, const Topology& topology) {
  return job.With([&](v1::JobSpec* changed) {
    v1::TopologySpec* spec = changed->mutable_topology();
    spec->Clear();
    if (topology.colocated) {
      spec->set_colocated(topology.rollout);
    } else {
      spec->set_rollout(topology.rollout);
      spec->set_trainer(topology.trainer);
    }
  });
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
