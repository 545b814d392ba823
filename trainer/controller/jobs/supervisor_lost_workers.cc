// The part of Supervisor that handles lost ranks and decides about restarts of all ranks.

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/process.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/jobs/supervisor.h"

namespace imageddpo {

void Supervisor::OnFailure(int world_rank, const std::string& reason) {
  if (!LoseWorker(world_rank, reason)) return;
  if (restart_reason_.empty()) {
    KillWorker(world_rank);
  } else {
    to_kill_.push_back(world_rank);
  }
}

bool Supervisor::LoseWorker(int world_rank, const std::string& reason) {
  const auto worker = scheduler_.workers().find(world_rank);
  if (worker == scheduler_.workers().end() || worker->second.dead) return false;
  const std::string what = worker->second.reported()
                               ? absl::StrCat("rank ", world_rank, " (pid ", worker->second.pid,
                                              " on ", worker->second.hostname, "): ", reason)
                               : absl::StrCat("rank ", world_rank, ": ", reason);
  dependencies_.logger->error("lost {}", what);
  dependencies_.metrics.RemoveWorker(world_rank);
  const std::string job_id = scheduler_.WorkerFailed(world_rank);
  if (ActiveJob* active = FindActive(job_id); active != nullptr) {
    active->gang().Died(world_rank, what);
    JobRecord& record = active->record();
    // An error that one of its ranks reported before takes precedence: the job is at fault.
    const bool recover = active->gang().GetOutcome().kind == GangTracker::Outcome::Kind::kRecover;
    if (recover && HoldsRanks(record.job.state()) && record.job.state() != v1::CANCELLING)
      Recover(record, what);
    if (active->gang().AllGone()) {
      FinishGang(job_id);
    } else if (active->gang().Broken() && !active->stopping()) {
      StopGang(*active, what);
    }
  }
  const int all = static_cast<int>(scheduler_.workers().size());
  const int wanted = options_.min_ranks > 0 ? std::min(options_.min_ranks, all) : all;
  if (scheduler_.pool_size() < wanted) {
    RequestRestart(absl::StrCat("lost ", what, "; ", scheduler_.pool_size(),
                                " workers are left where ", wanted, " are needed"));
  }
  return true;
}

void Supervisor::KillWorker(int world_rank) {
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

void Supervisor::LoseStuckRanks() {
  const double now_s = dependencies_.clock.NowSeconds();
  std::vector<std::pair<int, std::string>> stuck;
  for (const auto& [job_id, active] : active_) {
    if (!active->StopOverdue(now_s)) continue;
    for (const int rank : active->gang().Working()) stuck.emplace_back(rank, job_id);
  }
  for (const auto& [rank, job_id] : stuck) {
    OnFailure(rank, absl::StrCat("did not stop ", job_id, " within ", options_.stop_timeout_seconds,
                                 " s"));
  }
}

void Supervisor::ConsiderRestart() {
  const double now_s = dependencies_.clock.NowSeconds();
  const std::map<int, Scheduler::Worker>& workers = scheduler_.workers();
  if (!active_.empty() || scheduler_.num_dead() == 0 || !scheduler_.AllReported()) {
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

void Supervisor::RequestRestart(const std::string& reason) {
  if (!restart_reason_.empty()) return;
  restart_reason_ = reason;
  dependencies_.logger->error("a restart of all ranks is needed: {}", reason);
}

}  // namespace imageddpo
