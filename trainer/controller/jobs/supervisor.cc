#include "trainer/controller/jobs/supervisor.h"

#include <string.h>

#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/admission.h"
#include "trainer/controller/jobs/device_batch.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {

Supervisor::Supervisor(const Options& options, const Dependencies& dependencies,
                       const std::vector<int>& worker_ranks)
    : options_(options),
      dependencies_(dependencies),
      table_(dependencies.table),
      scheduler_(worker_ranks),
      idle_since_s_(dependencies.clock.NowSeconds()) {}

absl::Status Supervisor::ResumeStored() {
  IMAGEDDPO_RETURN_IF_ERROR(table_.Load());
  for (JobRecord* record : table_.All()) {
    const v1::JobState state = record->job.state();
    if (state == v1::CANCELLING) {
      table_
          .Transition(*record, v1::CANCELLED,
                      "the service was restarted while the job was being cancelled")
          .IgnoreError();
    } else if (HoldsRanks(state)) {
      Recover(*record, "the service died while the job ran");
    }
    if (WaitsForRanks(record->job.state())) Enqueue(*record);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> Supervisor::Submit(NewJob job) {
  if (!job.request_id.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::optional<JobRecord> earlier,
                               table_.store().FindByRequestId(job.request_id));
    if (earlier.has_value()) {
      if (earlier->request_sha256 == job.request_sha256) return earlier->job;
      return absl::AlreadyExistsError(absl::StrCat("request_id '", job.request_id,
                                                   "' was used for another job, ",
                                                   earlier->job.id(), "; choose a new one"));
    }
  }
  if (draining_ || !restart_reason_.empty()) {
    return absl::UnavailableError("the service is about to restart; try again in a few seconds");
  }
  if (!job.job.has_value()) return absl::InternalError("the job to submit was not judged");
  // Workers that died come back with the next restart.
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Topology topology,
      ResolveTopology(*job.job, static_cast<int>(scheduler_.workers().size())));
  if (job.job->precision() == Precision::kFp16 && !scheduler_.OnGpus()) {
    return absl::FailedPreconditionError(
        "`model.precision: fp16` needs GPUs and this pool has workers without; use `bf16`");
  }
  std::vector<std::string> warnings;
  IMAGEDDPO_ASSIGN_OR_RETURN(
      ResolvedJob closed,
      ChooseMicroBatch(*job.job, topology, job.model, scheduler_.MemoryOfRank(topology.ranks()),
                       scheduler_.OnGpus() ? kMostSamplesOnGpu : kMostSamplesOnCpu, &warnings));
  if (closed.spec().device().num_threads() == 0) {
    const int threads =
        ChooseNumThreads(topology, scheduler_.MinCoresPerHost(), scheduler_.MaxWorkersPerHost());
    IMAGEDDPO_ASSIGN_OR_RETURN(closed, closed.With([&](v1::JobSpec* spec) {
      spec->mutable_device()->set_num_threads(threads);
    }));
  }
  JobRecord record;
  record.request_id = std::move(job.request_id);
  record.request_sha256 = std::move(job.request_sha256);
  *record.job.mutable_spec() = closed.spec();
  record.job.mutable_progress()->set_num_epochs(record.job.spec().num_epochs());
  record.job.mutable_progress()->set_seconds_left(-1);
  for (std::string& warning : closed.Warnings()) warnings.push_back(std::move(warning));
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * added, table_.Add(std::move(record), warnings));
  Enqueue(*added);
  return added->job;
}

absl::StatusOr<v1::Job> Supervisor::Cancel(const std::string& id) {
  JobRecord* record = table_.Find(id);
  if (record == nullptr || IsFinal(record->job.state())) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const JobRecord stored, table_.store().Get(id));
    return absl::FailedPreconditionError(
        absl::StrCat(id, " has already ended: ",
                     StateName(record == nullptr ? stored.job.state() : record->job.state())));
  }
  if (record->job.state() == v1::CANCELLING) return record->job;
  ActiveJob* active = FindActive(id);
  scheduler_.RemoveFromQueue(id);
  IMAGEDDPO_RETURN_IF_ERROR(table_.Transition(
      *record, active != nullptr ? v1::CANCELLING : v1::CANCELLED, "cancelled by request"));
  if (active != nullptr) StopGang(*active, "cancelled by request");
  return record->job;
}

void Supervisor::Enqueue(JobRecord& record) {
  const absl::StatusOr<ResolvedJob> job = ResolvedJob::Reopen(record.job.spec());
  if (!job.ok()) {
    table_
        .Transition(record, v1::FAILED,
                    absl::StrCat("this version cannot run the job: ", job.status().message()))
        .IgnoreError();
    return;
  }
  scheduler_.Enqueue(record.number, record.job.id(), *job, record.job.state() == v1::RECOVERING);
}

ActiveJob* Supervisor::FindActive(const std::string& job_id) {
  const auto active = active_.find(job_id);
  return active == active_.end() ? nullptr : active->second.get();
}

void Supervisor::OnMessage(int world_rank, const v1::WorkerMessage& message) {
  using M = v1::WorkerMessage;
  if (message.message_case() == M::kHello) {
    const v1::Hello& hello = message.hello();
    dependencies_.logger->info("rank {} is there: pid {} on {}, {}, {} cores", world_rank,
                               hello.pid(), hello.hostname(), hello.device(), hello.cores());
    scheduler_.WorkerReported(world_rank, hello);
  } else if (message.message_case() == M::kCrashed) {
    const int signal_number = message.crashed().signal();
    const char* name = sigabbrev_np(signal_number);
    LoseWorker(world_rank, absl::StrCat("the process has died of signal ", signal_number, " (SIG",
                                        name != nullptr ? name : "?", ")"));
  } else if (message.message_case() == M::kUnreadable) {
    OnUnreadable(world_rank, message.unreadable());
  } else {
    OnJobMessage(world_rank, message);
  }
}

void Supervisor::OnUnreadable(int world_rank, const v1::Unreadable& unreadable) {
  const std::string what =
      absl::StrCat("sent a message of ", unreadable.size_bytes(), " bytes that cannot be read");
  dependencies_.logger->error("rank {} {}; it begins with {}", world_rank, what,
                              absl::BytesToHexString(unreadable.first_bytes()));
  for (const auto& [job_id, active] : active_) {
    if (!active->gang().Failed(world_rank, absl::DataLossError(what))) continue;
    if (!active->stopping()) StopGang(*active, what);
  }
}

void Supervisor::OnJobMessage(int world_rank, const v1::WorkerMessage& message) {
  using M = v1::WorkerMessage;
  const std::string& job_id = message.message_case() == M::kProgress ? message.progress().job_id()
                              : message.message_case() == M::kEpoch  ? message.epoch().job_id()
                              : message.message_case() == M::kEval   ? message.eval().job_id()
                              : message.message_case() == M::kCheckpoint
                                  ? message.checkpoint().job_id()
                              : message.message_case() == M::kEnded ? message.ended().job_id()
                                                                    : message.warning().job_id();
  ActiveJob* active = FindActive(job_id);
  if (active == nullptr || !active->gang().Has(world_rank)) {
    if (message.message_case() != M::kHeartbeat) {
      dependencies_.logger->debug("rank {} reports on {}, for which it does not work: ignored",
                                  world_rank, job_id);
    }
    return;
  }
  // A finished job takes no more reports; its other ranks are only being stopped.
  if (IsFinal(active->record().job.state()) && message.message_case() != M::kEnded) return;
  switch (message.message_case()) {
    case M::kProgress:
      active->OnProgress(message.progress());
      break;
    case M::kEpoch:
      active->OnEpoch(message.epoch());
      jobs_moved_ = true;
      break;
    case M::kEval:
      active->OnEval(message.eval());
      break;
    case M::kCheckpoint:
      active->OnCheckpoint(message.checkpoint());
      break;
    case M::kWarning:
      table_.AddWarning(active->record(), message.warning().message());
      break;
    case M::kEnded: {
      const absl::Status status(static_cast<absl::StatusCode>(message.ended().code()),
                                message.ended().message());
      if (message.ended().gang_tag() != active->tag()) break;  // From an earlier gang of the job.
      active->gang().Ended(world_rank, status);
      if (active->gang().AllGone()) {
        FinishGang(job_id);
      } else if (!status.ok() && !active->stopping()) {
        StopGang(*active,
                 absl::StrCat("rank ", world_rank, " ended with an error: ", status.message()));
      }
      break;
    }
    default:
      break;
  }
}

void Supervisor::Recover(JobRecord& record, const std::string& reason) {
  jobs_moved_ = true;
  if (record.restarts_without_epoch >= options_.max_restarts) {
    table_
        .Transition(
            record, v1::FAILED,
            absl::StrCat(reason, "; it was restarted ", record.restarts_without_epoch,
                         " times before without finishing a new epoch, so it is not tried again"))
        .IgnoreError();
    return;
  }
  ++record.restarts_without_epoch;
  table_.Transition(record, v1::RECOVERING, reason).IgnoreError();
}

void Supervisor::StopGang(ActiveJob& job, const std::string& reason) {
  job.StopBy(dependencies_.clock.NowSeconds() + options_.stop_timeout_seconds);
  for (const int world_rank : job.gang().Working()) {
    v1::ControllerMessage message;
    message.mutable_stop_job()->set_job_id(job.record().job.id());
    message.mutable_stop_job()->set_reason(reason);
    dependencies_.send(world_rank, std::move(message));
  }
}

void Supervisor::FinishGang(const std::string& job_id) {
  const auto active = active_.find(job_id);
  JobRecord& record = active->second->record();
  const v1::JobState state = record.job.state();
  const GangTracker::Outcome outcome = active->second->gang().GetOutcome();
  if (state == v1::CANCELLING) {
    table_.Transition(record, v1::CANCELLED, "cancelled by request").IgnoreError();
  } else if (HoldsRanks(state)) {
    const absl::Status result = active->second->CheckResult();
    if (outcome.kind == GangTracker::Outcome::Kind::kRecover) {
      Recover(record, outcome.reason);
    } else if (outcome.kind == GangTracker::Outcome::Kind::kFailed) {
      table_.Transition(record, v1::FAILED, outcome.reason).IgnoreError();
    } else if (!result.ok()) {
      table_.Transition(record, v1::FAILED, std::string(result.message())).IgnoreError();
    } else {
      table_.Transition(record, v1::SUCCEEDED, "").IgnoreError();
    }
  }
  active_.erase(active);
  scheduler_.Release(job_id);
  if (WaitsForRanks(record.job.state())) Enqueue(record);
  jobs_moved_ = true;
}

void Supervisor::StartGang(const Scheduler::Gang& gang) {
  JobRecord* record = table_.Find(gang.job_id);
  if (record == nullptr) return scheduler_.Release(gang.job_id);
  auto active = std::make_unique<ActiveJob>(
      ActiveJob::Dependencies{
          dependencies_.file_system, dependencies_.clock, table_, dependencies_.hub,
          dependencies_.job_metrics.Get(gang.job_id, record->job.spec().name())},
      *record, gang.job, gang.topology, gang.world_ranks);
  const absl::StatusOr<v1::StartJob> start = active->Prepare();
  if (!start.ok()) {
    table_
        .Transition(*record, v1::FAILED,
                    absl::StrCat("the job could not be started: ", start.status().message()))
        .IgnoreError();
    return scheduler_.Release(gang.job_id);
  }
  dependencies_.logger->info("{}: forms a gang of ranks {} ({})", gang.job_id,
                             absl::StrJoin(gang.world_ranks, ", "), gang.topology.ToString());
  for (const int world_rank : gang.world_ranks) {
    v1::ControllerMessage message;
    *message.mutable_start_job() = *start;
    dependencies_.send(world_rank, std::move(message));
  }
  active_[gang.job_id] = std::move(active);
}

void Supervisor::Tick() {
  table_.Flush().IgnoreError();
  if (!draining_ && restart_reason_.empty()) {
    for (const Scheduler::Gang& gang : scheduler_.FormGangs()) StartGang(gang);
    for (const auto& [job_id, reason] : scheduler_.WaitReasons()) {
      JobRecord* record = table_.Find(job_id);
      if (record != nullptr) table_.SetReason(*record, reason);
    }
  }
  LoseStuckRanks();
  ConsiderRestart();
  table_.DropFinished([this](const std::string& id) { return active_.contains(id); });
  ExportMetrics();
}

void Supervisor::Drain(const std::string& reason) {
  draining_ = true;
  for (JobRecord* record : table_.All()) {
    const v1::JobState state = record->job.state();
    if (state == v1::CANCELLING) {
      table_.Transition(*record, v1::CANCELLED, "cancelled by request").IgnoreError();
    } else if (HoldsRanks(state)) {
      table_.Transition(*record, v1::RECOVERING, reason)
          .IgnoreError();  // Not the job's fault: not counted.
    }
  }
  if (const absl::Status status = table_.Flush(); !status.ok()) {
    dependencies_.logger->error("the newest changes of jobs are not stored: {}",
                                std::string(status.message()));
  }
  for (const int world_rank : to_kill_) KillWorker(world_rank);
  to_kill_.clear();
}

void Supervisor::ExportMetrics() {
  int idle = 0, busy = 0, dead = 0;
  for (const auto& [rank, worker] : scheduler_.workers()) {
    ++(worker.dead ? dead : worker.job_id.empty() ? idle : busy);
  }
  dependencies_.metrics.SetWorkers(idle, busy, dead);
}

}  // namespace imageddpo
