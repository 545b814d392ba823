#pragma once

#include <map>
#include <set>

#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// Hosts, ranks and gangs as GetCluster shows them; of a gang only its job's id and its ranks.
/// @param ages_s  seconds since each rank's last heartbeat.
v1::Cluster ShowPool(const Scheduler& pool, const std::map<int, double>& ages_s);

/// The ranks that the request names by number or host. @return NOT_FOUND: there is no such rank or
/// host; INVALID_ARGUMENT: none is named.
absl::StatusOr<std::set<int>> RanksToDrain(const Scheduler& pool,
                                           const v1::DrainWorkerRequest& request);

}  // namespace imageddpo
