#include "trainer/controller/pool/pool_view.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"

namespace imageddpo {
namespace {

v1::RankState StateOf(const Scheduler::Worker& worker) {
  if (worker.dead) return v1::RANK_DEAD;
  if (!worker.reported()) return v1::RANK_STARTING;
  return worker.job_id.empty() ? v1::RANK_IDLE : v1::RANK_BUSY;
}

}  // namespace

v1::Cluster ShowPool(const Scheduler& pool, const std::map<int, double>& ages_s) {
  v1::Cluster cluster;
  std::map<std::string, v1::Host*> hosts;
  std::map<std::string, v1::Gang*> gangs;
  for (const auto& [rank, worker] : pool.workers()) {
    v1::Host*& host = hosts[worker.hostname];
    if (host == nullptr) {
      host = cluster.add_hosts();
      host->set_name(worker.hostname);
    }
    if (worker.host_memory_bytes > 0) host->set_memory_bytes(worker.host_memory_bytes);
    v1::Rank& shown = *host->add_ranks();
    shown.set_rank(rank);
    shown.set_state(StateOf(worker));
    shown.set_drained(worker.drained);
    shown.set_pid(worker.pid);
    shown.set_device(worker.device);
    shown.set_cores(worker.cores);
    shown.set_device_memory_bytes(worker.device_memory_bytes);
    shown.set_job_id(worker.job_id);
    const auto age_s = ages_s.find(rank);
    shown.set_heartbeat_age_seconds(age_s == ages_s.end() ? -1 : age_s->second);
    if (worker.job_id.empty()) continue;
    v1::Gang*& gang = gangs[worker.job_id];
    if (gang == nullptr) {
      gang = cluster.add_gangs();
      gang->set_job_id(worker.job_id);
    }
    gang->add_ranks(rank);
  }
  return cluster;
}

absl::StatusOr<std::set<int>> RanksToDrain(const Scheduler& pool,
                                           const v1::DrainWorkerRequest& request) {
  std::set<int> ranks;
  for (const int rank : request.ranks()) {
    if (!pool.workers().contains(rank)) {
      return absl::NotFoundError(
          absl::StrCat("there is no worker with rank ", rank, "; see `imageddpo cluster`"));
    }
    ranks.insert(rank);
  }
  for (const std::string& host : request.hosts()) {
    bool is_there = false;
    for (const auto& [rank, worker] : pool.workers()) {
      if (worker.hostname != host || !worker.reported()) continue;
      is_there = true;
      ranks.insert(rank);
    }
    if (!is_there) {
      return absl::NotFoundError(
          absl::StrCat("there is no host `", host, "` with workers; see `imageddpo cluster`"));
    }
  }
  if (ranks.empty()) return InvalidField("ranks", "and `hosts` are empty; name ranks or hosts");
  return ranks;
}

}  // namespace imageddpo
