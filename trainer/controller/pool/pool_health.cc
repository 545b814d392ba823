#include "trainer/controller/pool/pool_health.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/process.h"

namespace imageddpo {

PoolHealth::PoolHealth(const Options& options, Dependencies dependencies)
    : options_(options),
      dependencies_(std::move(dependencies)),
      scheduler_(dependencies_.scheduler),
      idle_since_s_(dependencies_.clock.NowSeconds()) {}

void PoolHealth::Died(int world_rank, const std::string& reason) { MarkDead(world_rank, reason); }

void PoolHealth::Lose(int world_rank, const std::string& reason) {
  if (!MarkDead(world_rank, reason)) return;
  if (restart_reason_.empty()) {
    Kill(world_rank);
  } else {
    to_kill_.push_back(world_rank);
  }
}

bool PoolHealth::MarkDead(int world_rank, const std::string& reason) {
  const auto worker = scheduler_.workers().find(world_rank);
  if (worker == scheduler_.workers().end() || worker->second.dead) return false;
  const std::string what = worker->second.reported()
                               ? absl::StrCat("rank ", world_rank, " (pid ", worker->second.pid,
                                              " on ", worker->second.hostname, "): ", reason)
                               : absl::StrCat("rank ", world_rank, ": ", reason);
  dependencies_.logger->error("lost {}", what);
  dependencies_.metrics.WorkerDied(world_rank);
  const std::string job_id = scheduler_.WorkerFailed(world_rank);
  dependencies_.on_lost(world_rank, job_id, what);
  const int all = static_cast<int>(scheduler_.workers().size());
  const int wanted = options_.min_ranks > 0 ? std::min(options_.min_ranks, all) : all;
  if (scheduler_.pool_size() < wanted) {
    RequestRestart(absl::StrCat("lost ", what, "; ", scheduler_.pool_size(),
                                " workers are left where ", wanted, " are needed"));
  }
  return true;
}

void PoolHealth::Kill(int world_rank) {
  const ProcessId& process = scheduler_.workers().at(world_rank).process;
  if (process.host.empty()) return;  // It has never reported.
  const absl::Status killed = KillProcess(process);
  if (!absl::IsFailedPrecondition(killed)) {
    if (!killed.ok()) dependencies_.logger->error("{}", std::string(killed.message()));
    return;
  }
  for (const auto& [rank, other] : scheduler_.workers()) {
    if (other.dead || rank == world_rank || other.process.host != process.host) continue;
    v1::ControllerMessage message;
    message.mutable_kill_process()->set_world_rank(world_rank);
    v1::ProcessRef& reference = *message.mutable_kill_process()->mutable_process();
    reference.set_host(process.host);
    reference.set_pid(process.pid);
    reference.set_start_ticks(process.start_ticks);
    dependencies_.send(rank, std::move(message));
    return;
  }
}

void PoolHealth::KillPostponed() {
  for (const int world_rank : to_kill_) Kill(world_rank);
  to_kill_.clear();
}

void PoolHealth::Look(bool jobs_run) {
  ConsiderRestart(jobs_run);
  int idle = 0, busy = 0, dead = 0;
  for (const auto& [rank, worker] : scheduler_.workers()) {
    ++(worker.dead ? dead : worker.job_id.empty() ? idle : busy);
  }
  dependencies_.metrics.SetWorkers(idle, busy, dead);
}

void PoolHealth::ConsiderRestart(bool jobs_run) {
  const double now_s = dependencies_.clock.NowSeconds();
  const std::map<int, Scheduler::Worker>& workers = scheduler_.workers();
  if (jobs_run || scheduler_.num_dead() == 0 || !scheduler_.AllReported()) {
    idle_since_s_ = now_s;
    return;
  }
  const std::string lost = absl::StrCat(scheduler_.num_dead(), " of ", workers.size(),
                                        workers.size() == 1 ? " worker" : " workers", " died");
  if (const std::string job_id = scheduler_.WaitsForTheDead(); !job_id.empty()) {
    return RequestRestart(absl::StrCat(lost, "; ", job_id, " needs more than are left"));
  }
  const bool by_jobs = std::any_of(workers.begin(), workers.end(),
                                   [](const auto& entry) { return entry.second.died_at_work; });
  if (now_s - idle_since_s_ >=
      (by_jobs ? options_.idle_seconds : options_.idle_seconds_without_job)) {
    RequestRestart(absl::StrCat(lost, " and no job runs"));
  }
}

void PoolHealth::RequestRestart(const std::string& reason) {
  if (!restart_reason_.empty()) return;
  restart_reason_ = reason;
  dependencies_.logger->error("a restart of all ranks is needed: {}", reason);
}

}  // namespace imageddpo
