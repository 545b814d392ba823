#pragma once

#include <map>

#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// What the scheduler knows of the ranks, for people.
/// @param ages_s  seconds since each worker's last heartbeat, by world rank.
v1::ClusterView ViewOf(const Scheduler& scheduler, const std::map<int, double>& ages_s);

}  // namespace imageddpo
