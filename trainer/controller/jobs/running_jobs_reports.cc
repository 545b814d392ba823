// What the ranks of all gangs report, and how gangs end.

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/logging.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "common/metrics/epoch_metrics.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/jobs/running_jobs.h"
#include "trainer/controller/pool/verdict.h"

namespace imageddpo {
namespace {

using M = v1::WorkerMessage;

const std::string& JobIdOf(const v1::WorkerMessage& message) {
  switch (message.message_case()) {
    case M::kProgress:
      return message.progress().job_id();
    case M::kEpoch:
      return message.epoch().job_id();
    case M::kEval:
      return message.eval().job_id();
    case M::kCheckpoint:
      return message.checkpoint().job_id();
    case M::kEnded:
      return message.ended().job_id();
    case M::kData:
      return message.data().job_id();
    case M::kWaiting:
      return message.waiting().job_id();
    case M::kRewardCall:
      return message.reward_call().job_id();
    case M::kTrace:
      return message.trace().job_id();
    case M::kGuard:
      return message.guard().job_id();
    case M::kLog:
      return message.log().job_id();
    default:
      return message.warning().job_id();
  }
}

}  // namespace

void RunningJobs::OnUnreadable(int world_rank, const v1::Unreadable& unreadable) {
  const std::string what =
      absl::StrCat("sent a message of ", unreadable.size_bytes(), " bytes that cannot be read");
  dependencies_.logger->error("rank {} {}; it begins with {}", world_rank, what,
                              absl::BytesToHexString(unreadable.first_bytes()));
  for (const auto& [job_id, job] : jobs_) {
    if (!job->gang().Failed(world_rank, absl::DataLossError(what))) continue;
    if (!job->stopping()) StopGang(*job, what);
  }
}

void RunningJobs::OnReport(int world_rank, v1::WorkerMessage message) {
  const std::string job_id = JobIdOf(message);
  ActiveJob* job = Find(job_id);
  if (job == nullptr || !job->gang().Has(world_rank)) {
    if (message.message_case() != M::kHeartbeat) {
      dependencies_.logger->debug("rank {} reports on {}, for which it does not work: ignored",
                                  world_rank, job_id);
    }
    return;
  }
  if (message.message_case() == M::kLog) return job->OnLog(world_rank, message.log());
  // A finished job takes no more reports; its other ranks are only being stopped.
  const bool is_over = IsFinal(job->record().job.state()) || job->closed();
  if (is_over && message.message_case() != M::kEnded) return;
  switch (message.message_case()) {
    case M::kProgress:
      job->OnProgress(message.progress());
      break;
    case M::kEpoch:
      WithJob(*dependencies_.logger, job_id)
          ->info("{}", EpochLine(message.epoch().metrics(), job->record().job.spec().num_epochs()));
      job->OnEpoch(std::move(*message.mutable_epoch()));
      moved_ = true;
      break;
    case M::kEval:
      job->OnEval(std::move(*message.mutable_eval()));
      break;
    case M::kCheckpoint: {
      const int64_t epoch = message.checkpoint().epoch();
      job->OnCheckpoint(std::move(*message.mutable_checkpoint()));
      StopAfter(epoch, *job);
      break;
    }
    case M::kData:
      job->OnData(message.data());
      break;
    case M::kWaiting:
      job->OnWaiting(world_rank, message.waiting());
      break;
    case M::kRewardCall:
      job->OnRewardCall(message.reward_call());
      break;
    case M::kTrace:
      job->OnTrace(world_rank, std::move(*message.mutable_trace()));
      break;
    case M::kWarning:
      table_.AddWarning(job->record(), message.warning().message());
      break;
    case M::kGuard:
      table_.AddWarning(job->record(), message.guard().message(), &message.guard());
      break;
    case M::kEnded:
      OnEnded(world_rank, message.ended(), *job);
      break;
    default:
      break;
  }
}

void RunningJobs::OnEnded(int world_rank, const v1::JobEnded& ended, ActiveJob& job) {
  absl::Status status(static_cast<absl::StatusCode>(ended.code()), ended.message());
  if (ended.has_fault()) {
    status = WithFault(std::move(status), {.whose = static_cast<Whose>(ended.fault().whose()),
                                           .passes = ended.fault().passes()});
  }
  if (ended.pauses_job()) status = PausesJob(std::move(status), ended.waiting_for());
  if (ended.has_rolls_back_to()) status = RollsBack(std::move(status), ended.rolls_back_to());
  if (ended.gang_tag() != job.tag()) return;  // From an earlier gang of the job.
  job.gang().Ended(world_rank, status);
  if (job.gang().AllGone()) {
    FinishGang(ended.job_id());
  } else if (!status.ok() && !job.stopping()) {
    StopGang(job, absl::StrCat("rank ", world_rank, " ended with an error: ", status.message()));
  }
}

void RunningJobs::StopAfter(int64_t epoch, ActiveJob& job) {
  JobRecord& record = job.record();
  if (job.stopping()) return;
  if (epoch >= record.job.spec().num_epochs()) return;  // What is left to do is its end.
  job.CountSeconds();
  if (record.job.state() == v1::RUNNING && IsOutOfTime(record.job)) {
    table_.Transition(record, v1::PAUSING, PauseReason(record.job)).IgnoreError();
  }
  const bool pauses = record.job.state() == v1::PAUSING;
  if (!pauses && job.move_reason().empty()) return;
  job.Close();
  StopGang(job, pauses ? PauseReason(record.job) : job.move_reason());
}

void RunningJobs::OnRankLost(int world_rank, const std::string& job_id, const std::string& what) {
  ActiveJob* job = Find(job_id);
  if (job == nullptr) return;
  job->gang().Died(world_rank, what);
  JobRecord& record = job->record();
  // An error that one of its ranks reported before takes precedence: the job is at fault.
  const bool recover = job->gang().GetOutcome().kind == GangTracker::Outcome::Kind::kRecover;
  const v1::JobState state = record.job.state();
  if (recover && (state == v1::STARTING || state == v1::RUNNING)) {
    job->WriteKept();
    dependencies_.recovery.Recover(record, what);
  } else if (recover && state == v1::PAUSING && !job->stopping()) {
    table_.AddWarning(record,
                      absl::StrCat(what, "; the job is paused after its last finished epoch"));
  }
  if (job->gang().AllGone()) {
    FinishGang(job_id);
  } else if (job->gang().Broken() && !job->stopping()) {
    StopGang(*job, what);
  }
}

void RunningJobs::FinishGang(const std::string& job_id) {
  using Kind = GangTracker::Outcome::Kind;
  const auto entry = jobs_.find(job_id);
  ActiveJob& job = *entry->second;
  JobRecord& record = job.record();
  const v1::JobState state = record.job.state();
  const GangTracker::Outcome outcome = job.gang().GetOutcome();
  job.CountSeconds();
  if (!IsFinal(state) && !job.TooEarly()) job.WriteKept();
  dependencies_.scheduler.Release(job_id);
  if (!IsFinal(state) && state != v1::CANCELLING && outcome.kind != Kind::kFailed) {
    if (!job.AllWritten()) return;
    if (outcome.kind == Kind::kDone && dependencies_.writer.HasWork(job_id)) return;
  }
  if (state == v1::CANCELLING) {
    table_.Transition(record, v1::CANCELLED, "cancelled by request").IgnoreError();
  } else if (HoldsRanks(state)) {
    const absl::Status result = job.CheckResult();
    if (outcome.kind == Kind::kFailed) {
      table_.Transition(record, v1::FAILED, outcome.reason).IgnoreError();
    } else if (state == v1::PAUSING &&
               (outcome.kind == Kind::kRecover || outcome.kind == Kind::kPause ||
                outcome.kind == Kind::kRollBack || job.closed() || !result.ok())) {
      table_.Transition(record, v1::PAUSED, PauseReason(record.job)).IgnoreError();
    } else if (job.closed()) {
      table_.Transition(record, v1::RECOVERING, job.move_reason()).IgnoreError();
    } else if (outcome.kind == Kind::kPause) {
      table_.Transition(record, v1::PAUSED, outcome.reason, outcome.waiting_for).IgnoreError();
    } else if (outcome.kind == Kind::kRollBack) {
      dependencies_.recovery.RollBack(record, CheckpointsOf(job_id), outcome.epochs,
                                      outcome.reason);
    } else if (outcome.kind == Kind::kRecover) {
      dependencies_.recovery.Recover(record, outcome.reason);
    } else if (!result.ok() && Judge(result) == Verdict::kOutside) {
      dependencies_.recovery.Recover(record, std::string(result.message()));
    } else if (!result.ok()) {
      table_.Transition(record, v1::FAILED, std::string(result.message())).IgnoreError();
    } else {
      table_.Transition(record, v1::SUCCEEDED, "").IgnoreError();
    }
  }
  jobs_.erase(entry);
  if (record.job.state() == v1::PAUSED && !record.job.progress().preempted_by().empty()) {
    dependencies_.recovery.RequeuePreempted(record);
  } else {
    dependencies_.recovery.Requeue(record);
  }
  moved_ = true;
}

}  // namespace imageddpo
