#include "trainer/controller/jobs/recovery.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {

QueueStanding StandingOf(const JobRecord& record) {
  const v1::Job& job = record.job;
  const v1::JobProgress& progress = job.progress();
  QueueStanding standing{.recovers = job.state() == v1::RECOVERING,
                         .priority = job.priority(),
                         .owner = job.owner(),
                         .model = record.model};
  const auto epochs_left = static_cast<double>(progress.num_epochs() - progress.epoch());
  if (progress.has_newest_epoch() && progress.newest_epoch().epoch_seconds() > 0)
    standing.seconds = std::max(0.0, epochs_left) * progress.newest_epoch().epoch_seconds();
  if (job.max_seconds() > 0) {
    standing.seconds =
        std::min(standing.seconds, std::max(0.0, job.max_seconds() - progress.run_seconds()));
  }
  return standing;
}

Recovery::Recovery(int max_restarts, JobTable& table, Scheduler& queue)
    : max_restarts_(max_restarts), table_(table), queue_(queue) {}

absl::Status Recovery::ResumeStored() {
  IMAGEDDPO_RETURN_IF_ERROR(table_.Load());
  for (JobRecord* record : table_.All()) {
    const v1::JobState state = record->job.state();
    if (state == v1::CANCELLING) {
      table_
          .Transition(*record, v1::CANCELLED,
                      "the service was restarted while the job was being cancelled")
          .IgnoreError();
    } else if (state == v1::PAUSING) {
      table_
          .Transition(*record, v1::PAUSED,
                      absl::StrCat(PauseReason(record->job),
                                   "; the service died before the epoch under way was finished"))
          .IgnoreError();
    } else if (HoldsRanks(state)) {
      Recover(*record, "the service died while the job ran");
    }
    if (record->job.state() == v1::PAUSED && !record->job.progress().preempted_by().empty()) {
      RequeuePreempted(*record);
    } else {
      Requeue(*record);
    }
  }
  return absl::OkStatus();
}

void Recovery::Recover(JobRecord& record, const std::string& reason) {
  charged_ = true;
  if (record.restarts_without_epoch >= max_restarts_) {
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

void Recovery::RollBack(JobRecord& record, CheckpointStore checkpoints, int64_t epochs,
                        const std::string& reason) {
  const absl::StatusOr<int64_t> back = checkpoints.GoBackToAtMost(epochs);
  if (absl::IsNotFound(back.status())) {
    table_
        .Transition(record, v1::PAUSED,
                    absl::StrCat(reason, ", and it has none (`checkpoint.keep`): it is paused"))
        .IgnoreError();
    return;
  }
  if (!back.ok()) {  // The disk's: the epoch is trained again, and the guard speaks again.
    return Recover(record, absl::StrCat(reason, ": ", back.status().message()));
  }
  v1::GuardsSpec& guards = *record.job.mutable_spec()->mutable_guards();
  guards.set_rollbacks(guards.rollbacks() + 1);
  // The epochs from here on are others than those that were told.
  record.epochs_reported = std::min(record.epochs_reported, *back);
  record.eval_reported = std::min(record.eval_reported, *back);
  record.checkpoint_reported = std::min(record.checkpoint_reported, *back);
  record.restarts_without_epoch = 0;
  record.job.mutable_progress()->set_epoch(*back);
  table_
      .Transition(record, v1::RECOVERING,
                  absl::StrCat(reason, "; it goes on after epoch ", *back, " (rollback ",
                               guards.rollbacks(), ")"))
      .IgnoreError();
}

void Recovery::Requeue(JobRecord& record) {
  if (!WaitsForRanks(record.job.state())) return;
  const absl::StatusOr<ResolvedJob> job = ResolvedJob::Reopen(record.job.spec());
  if (!job.ok()) {
    table_
        .Transition(record, v1::FAILED,
                    absl::StrCat("this version cannot run the job: ", job.status().message()))
        .IgnoreError();
    return;
  }
  queue_.Enqueue(record.number, record.job.id(), *job, StandingOf(record));
}

void Recovery::RequeuePreempted(JobRecord& record) {
  v1::JobProgress& progress = *record.job.mutable_progress();
  const std::string by = std::exchange(*progress.mutable_preempted_by(), "");
  const std::string reason = absl::StrCat(
      "goes on by itself when there are ranks for it: it made "
      "room for ",
      by, ", whose priority is higher");
  if (table_.Transition(record, v1::QUEUED, reason).ok()) Requeue(record);
}

void Recovery::Postpone(JobRecord& record, const absl::Status& why) {
  if (!std::exchange(postponed_, true)) disk_.Failed(table_.clock().NowSeconds());
  Requeue(record);
  queue_.Hold(record.job.id(), WaitsForDisk(why));
}

void Recovery::Prepared() {
  if (!postponed_) disk_.Worked();
}

void Recovery::Tick() {
  if (!postponed_ || !disk_.IsDue(table_.clock().NowSeconds())) return;
  postponed_ = false;
  queue_.ReleaseHolds();
}

void Recovery::Interrupt(const std::string& reason) {
  for (JobRecord* record : table_.All()) {
    const v1::JobState state = record->job.state();
    if (state == v1::CANCELLING) {
      table_.Transition(*record, v1::CANCELLED, "cancelled by request").IgnoreError();
    } else if (state == v1::PAUSING) {
      table_.Transition(*record, v1::PAUSED, PauseReason(record->job)).IgnoreError();
    } else if (HoldsRanks(state)) {
      table_.Transition(*record, v1::RECOVERING, reason).IgnoreError();
    }
  }
}

}  // namespace imageddpo
