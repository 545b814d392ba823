#include "trainer/controller/jobs/supervisor.h"

#include <string.h>

#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "trainer/controller/pool/pool_view.h"

namespace imageddpo {
namespace {

constexpr double kUsageIntervalSeconds = 60;
constexpr double kReasonsIntervalSeconds = 1;
constexpr char kAllRanks[] = "*";

/// How a drain is stored.
std::string DrainOf(const std::string& rank, const std::string& host) {
  return absl::StrCat(rank, "@", host);
}

}  // namespace

Supervisor::Supervisor(const Options& options, const Dependencies& dependencies,
                       const std::vector<int>& worker_ranks)
    : drain_seconds_(options.drain_seconds),
      clock_(dependencies.clock),
      table_(dependencies.table),
      hub_(dependencies.hub),
      logger_(dependencies.logger),
      scheduler_(worker_ranks, options.queue),
      recovery_(options.max_restarts, table_, scheduler_),
      writer_({}, dependencies.file_system, dependencies.clock),
      running_(options.running, {dependencies.file_system, dependencies.clock, table_,
                                 dependencies.hub, dependencies.metrics, dependencies.job_metrics,
                                 scheduler_, recovery_, logger_, writer_, dependencies.send}),
      outages_({table_, recovery_, dependencies.clock, dependencies.ask_rewards}),
      health_(options.health,
              {scheduler_, dependencies.clock, dependencies.metrics, logger_, dependencies.send,
               [this](int world_rank, const std::string& job_id, const std::string& what) {
                 running_.OnRankLost(world_rank, job_id, what);
               }}),
      jobs_({table_, scheduler_, running_, [this] { return is_ending(); }, options.limits}) {}

absl::Status Supervisor::ResumeStored() {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<OwnerUsage> usage, table_.store().OwnersUsage());
  for (const OwnerUsage& of_owner : usage) {
    scheduler_.LoadUsage({of_owner.owner, of_owner.rank_seconds, of_owner.at_s});
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(drains_, table_.store().Drains());
  return recovery_.ResumeStored();
}

void Supervisor::OnMessage(int world_rank, v1::WorkerMessage message) {
  using M = v1::WorkerMessage;
  if (message.message_case() == M::kHello) {
    const v1::Hello& hello = message.hello();
    logger_->info("rank {} is there: pid {} on {}, {}, {} cores", world_rank, hello.pid(),
                  hello.hostname(), hello.device(), hello.cores());
    scheduler_.WorkerReported(world_rank, hello);
    RestoreDrain(world_rank, hello.hostname());
  } else if (message.message_case() == M::kCrashed) {
    const int signal_number = message.crashed().signal();
    const char* name = sigabbrev_np(signal_number);
    health_.Died(world_rank, absl::StrCat("the process has died of signal ", signal_number, " (SIG",
                                          name != nullptr ? name : "?", ")"));
  } else if (message.message_case() == M::kRefused) {
    const v1::Refused& refused = message.refused();
    if (refusal_.empty()) {
      refusal_ = absl::StrCat("rank ", world_rank, " on ", refused.host(),
                              " cannot start: ", refused.reason());
    }
  } else if (message.message_case() == M::kHung) {
    const v1::Hung& hung = message.hung();
    health_.Died(world_rank,
                 absl::StrFormat("stage '%s' of %s made no progress for %.0f s, and its limit is "
                                 "%.0f s (max_stage_seconds); %s",
                                 hung.stage(), hung.job_id(), hung.seconds(), hung.limit(),
                                 hung.stack().empty() ? "its stack is in the rank's log"
                                                      : "no stack: " + hung.stack()));
  } else if (message.message_case() == M::kUnreadable) {
    running_.OnUnreadable(world_rank, message.unreadable());
  } else {
    running_.OnReport(world_rank, std::move(message));
  }
}

v1::Cluster Supervisor::Cluster(const std::map<int, double>& ages_s) const {
  v1::Cluster cluster = ShowPool(scheduler_, ages_s);
  for (v1::Gang& gang : *cluster.mutable_gangs()) {
    const JobRecord* const record = table_.Find(gang.job_id());
    if (record == nullptr) continue;
    gang.set_job_name(record->job.spec().name());
    gang.set_topology(record->job.topology());
    gang.set_owner(record->job.owner());
  }
  return cluster;
}

absl::Status Supervisor::Drain(const v1::DrainWorkerRequest& request) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::set<int> ranks, RanksToDrain(scheduler_, request));
  std::map<std::string, std::string> drained_of_jobs;  // A drained rank of each job; or "".
  for (const int rank : ranks) {
    scheduler_.SetDrained(rank, !request.undrain());
    logger_->info("rank {} is {} by request", rank, request.undrain() ? "back" : "drained");
    if (const std::string& id = scheduler_.workers().at(rank).job_id; !id.empty()) {
      drained_of_jobs[id];
    }
  }
  for (const auto& [rank, worker] : scheduler_.workers()) {
    const auto job = drained_of_jobs.find(worker.job_id);
    if (worker.drained && job != drained_of_jobs.end()) {
      job->second = absl::StrCat("rank ", rank, " was drained by request");
    }
  }
  for (const auto& [job_id, reason] : drained_of_jobs) running_.MoveOff(job_id, reason);
  return StoreDrains();
}

void Supervisor::RestoreDrain(int world_rank, const std::string& host) {
  if (!scheduler_.workers().contains(world_rank)) return;
  if (!drains_.contains(DrainOf(absl::StrCat(world_rank), host)) &&
      !drains_.contains(DrainOf(kAllRanks, host))) {
    return;
  }
  scheduler_.SetDrained(world_rank, true);
  logger_->info("rank {} is still drained", world_rank);
}

absl::Status Supervisor::StoreDrains() {
  std::set<std::string> hosts_there, hosts_in_use;
  for (const auto& [rank, worker] : scheduler_.workers()) {
    if (!worker.reported() || worker.dead) continue;
    hosts_there.insert(worker.hostname);
    if (!worker.drained) hosts_in_use.insert(worker.hostname);
  }
  std::erase_if(drains_, [&](const std::string& drain) {  // Others may come back drained.
    return hosts_there.contains(drain.substr(drain.find('@') + 1));
  });
  for (const auto& [rank, worker] : scheduler_.workers()) {
    if (!worker.drained || !hosts_there.contains(worker.hostname)) continue;
    const bool is_whole_host = !hosts_in_use.contains(worker.hostname);
    drains_.insert(DrainOf(is_whole_host ? kAllRanks : absl::StrCat(rank), worker.hostname));
  }
  return Annotate(table_.store().SetDrains(drains_),
                  "it is done, but not stored, and a restart of the service would undo it");
}

void Supervisor::OnRewardsAnswered(const std::string& job_id, bool is_back) {
  if (!is_ending()) outages_.OnAnswer(job_id, is_back);
}

void Supervisor::Tick() {
  table_.Flush().IgnoreError();
  running_.Tick();
  recovery_.Tick();
  if (!is_ending()) {
    outages_.Tick();
    RunQueue();
  }
  StoreUsage();
  for (const RunningJobs::StuckRank& rank : running_.StuckRanks())
    health_.Lose(rank.world_rank, rank.reason);
  health_.Look(!running_.empty());
  table_.DropFinished([this](const std::string& id) { return running_.Contains(id); });
}

void Supervisor::RunQueue() {
  GangForecasts forecasts;
  if (!scheduler_.queue_is_empty()) forecasts = running_.Forecasts();
  const std::vector<Scheduler::Gang> gangs = scheduler_.FormGangs(clock_.UnixSeconds(), forecasts);
  for (const Scheduler::Gang& gang : gangs) running_.Start(gang);
  if (scheduler_.preempts()) {
    if (!gangs.empty()) forecasts = running_.Forecasts();
    const Scheduler::Preemption preemption = scheduler_.ToPreempt(forecasts);
    for (const std::string& job_id : preemption.from) running_.Preempt(job_id, preemption.job_id);
  }
  // They also change with what is expected of the jobs at work.
  const double now_s = clock_.NowSeconds();
  if (scheduler_.version() == reasons_version_ && now_s < next_reasons_s_) return;
  reasons_version_ = scheduler_.version();
  next_reasons_s_ = now_s + kReasonsIntervalSeconds;
  hub_.SetWaitReasons(scheduler_.WaitReasons());
}

void Supervisor::StoreUsage() {
  const double now_s = clock_.NowSeconds();
  if (!scheduler_.usage_changed() && (running_.empty() || now_s < next_usage_s_)) return;
  next_usage_s_ = now_s + kUsageIntervalSeconds;
  std::vector<OwnerUsage> usage;
  for (const FairShare::Usage& of_owner : scheduler_.TakeUsage()) {
    usage.push_back({of_owner.owner, of_owner.rank_seconds, of_owner.at_s});
  }
  if (usage.empty()) return;
  // What a full disk refuses is stored with the next change: only shares depend on it.
  if (const absl::Status stored = table_.store().SetOwnersUsage(usage); !stored.ok()) {
    logger_->debug("what owners have taken is not stored: {}", std::string(stored.message()));
  }
}

bool Supervisor::MayStop() {
  if (!stop_by_s_.has_value()) {
    stop_by_s_ = clock_.NowSeconds() + drain_seconds_;
    running_.WantCheckpoints();
    if (running_.AwaitsCheckpoints() && drain_seconds_ > 0) {
      logger_->info(
          "asked to stop: waits up to {} s for the epochs under way; finished ones are on disk",
          drain_seconds_);
    }
  }
  return !running_.AwaitsCheckpoints() || clock_.NowSeconds() >= *stop_by_s_;
}

void Supervisor::Drain(const std::string& reason) {
  draining_ = true;
  running_.WriteFinishedEpochs();
  recovery_.Interrupt(reason);
  if (const absl::Status status = table_.Flush(); !status.ok()) {
    logger_->error("the newest changes of jobs are not stored: {}", std::string(status.message()));
  }
  health_.KillPostponed();
}

}  // namespace imageddpo
