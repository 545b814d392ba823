#include "trainer/controller/jobs/job_service.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/compare/branch_rules.h"
#include "common/config/job_states.h"
#include "trainer/controller/artifacts/job_artifacts.h"
#include "trainer/controller/jobs/admission.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/jobs/recovery.h"
#include "trainer/controller/store/job_labels.h"

namespace imageddpo {
namespace {

absl::Status RanksHaveNotStopped(const std::string& id, v1::JobState state) {
  return WithReason(
      absl::FailedPreconditionError(
          absl::StrCat(id, " is ", StateName(state),
                       ", but some of its ranks have not stopped yet; try again in a few seconds")),
      Reason::kRanksNotStopped, {{"job", id}});
}

/// The record of a job that trains from its first epoch, with its settings closed.
JobRecord RecordOf(JobService::NewJob job, const ResolvedJob& closed) {
  JobRecord record;
  record.request_id = std::move(job.request_id);
  record.request_sha256 = std::move(job.request_sha256);
  record.model = job.model;
  record.job.set_owner(std::move(job.owner));
  *record.job.mutable_spec() = closed.spec();
  record.job.mutable_progress()->set_num_epochs(closed.spec().num_epochs());
  record.job.mutable_progress()->set_seconds_left(-1);
  return record;
}

}  // namespace

absl::Status JobService::Unrunnable(const std::string& id, const absl::Status& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("this version cannot run ", id, ": ", why.message()));
}

JobService::JobService(Dependencies dependencies)
    : dependencies_(std::move(dependencies)),
      table_(dependencies_.table),
      scheduler_(dependencies_.scheduler),
      running_(dependencies_.running) {}

absl::StatusOr<JobRecord*> JobService::Unfinished(const std::string& id) {
  JobRecord* record = table_.Find(id);
  if (record != nullptr && !IsFinal(record->job.state())) return record;
  IMAGEDDPO_ASSIGN_OR_RETURN(const JobRecord stored, table_.store().Get(id));
  return StateForbids(id, record == nullptr ? stored.job.state() : record->job.state(), "");
}

absl::StatusOr<std::optional<v1::Job>> JobService::FindRepeated(const NewJob& job) const {
  if (job.request_id.empty()) return std::nullopt;
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::optional<JobRecord> earlier,
                             table_.store().FindByRequestId(job.request_id));
  if (!earlier.has_value()) return std::nullopt;
  if (earlier->request_sha256 == job.request_sha256) return earlier->job;
  return WithReason(absl::AlreadyExistsError(absl::StrCat("request_id '", job.request_id,
                                                          "' was used for another job, ",
                                                          earlier->job.id(), "; choose a new one")),
                    Reason::kRequestIdUsed, {{"job", earlier->job.id()}});
}

void JobService::Enqueue(const JobRecord& record, const ResolvedJob& job) {
  scheduler_.Enqueue(record.number, record.job.id(), job, StandingOf(record));
}

absl::StatusOr<v1::Job> JobService::Submit(NewJob job) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::optional<v1::Job> earlier, FindRepeated(job));
  if (earlier.has_value()) return *std::move(earlier);
  IMAGEDDPO_RETURN_IF_ERROR(CheckOpen());
  IMAGEDDPO_RETURN_IF_ERROR(CheckRoom(job.owner));
  IMAGEDDPO_RETURN_IF_ERROR(CheckPriority(job.priority));
  IMAGEDDPO_RETURN_IF_ERROR(CheckMaxSeconds(job.max_seconds));
  if (!job.job.has_value()) return absl::InternalError("the job to submit was not judged");
  std::vector<std::string> warnings;
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob closed, FitToPool(*job.job, job.model, &warnings));
  for (std::string& warning : closed.Warnings()) warnings.push_back(std::move(warning));
  const auto labels = std::exchange(job.labels, {});
  const int32_t priority = job.priority;
  const double max_seconds = job.max_seconds;
  const std::string held_for = job.hold ? "held since it was submitted; resume it to start it" : "";
  JobRecord record = RecordOf(std::move(job), closed);
  record.job.set_priority(priority);
  record.job.set_max_seconds(max_seconds);
  IMAGEDDPO_RETURN_IF_ERROR(SetLabels(labels, &record.job));
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * added, table_.Add(std::move(record), warnings, held_for));
  if (held_for.empty()) Enqueue(*added, closed);
  return added->job;
}

absl::StatusOr<v1::Job> JobService::Cancel(const std::string& id) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
  if (record->job.state() == v1::CANCELLING) return record->job;
  const bool has_ranks = running_.Contains(id);
  scheduler_.RemoveFromQueue(id);
  IMAGEDDPO_RETURN_IF_ERROR(table_.Transition(*record, has_ranks ? v1::CANCELLING : v1::CANCELLED,
                                              "cancelled by request"));
  if (has_ranks) running_.Stop(id, "cancelled by request");
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Pause(const std::string& id, bool immediately) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
  const v1::JobState state = record->job.state();
  if (state == v1::PAUSED) {
    if (!record->job.progress().waiting_for().empty()) {  // Not to go on by itself any more.
      record->job.mutable_progress()->clear_waiting_for();
      table_.SetReason(*record, "paused by request");
    }
    return record->job;
  }
  if (state == v1::PAUSING && !record->job.progress().preempted_by().empty()) {
    record->job.mutable_progress()->clear_preempted_by();  // Not to go on by itself any more.
    table_.SetReason(*record, "paused by request as soon as the epoch under way is trained");
  }
  if (state == v1::CANCELLING) {
    return StateForbids(id, state, "it cannot be paused; resume it when it is CANCELLED");
  }
  if (!running_.Contains(id)) {
    scheduler_.RemoveFromQueue(id);
    IMAGEDDPO_RETURN_IF_ERROR(table_.Transition(*record, v1::PAUSED, "paused by request"));
    return record->job;
  }
  // A job that starts or recovers has no epoch under way.
  const bool waits = !immediately && (state == v1::RUNNING || state == v1::PAUSING);
  if (state != v1::PAUSING) {
    IMAGEDDPO_RETURN_IF_ERROR(
        table_.Transition(*record, v1::PAUSING,
                          waits ? "paused by request as soon as the epoch under way is trained"
                                : "paused by request"));
  }
  if (waits) {
    running_.WantCheckpoint(id);
  } else {
    running_.Stop(id, "paused by request");
  }
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Resume(const std::string& id, std::optional<int64_t> epoch) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckOpen());
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, table_.FindOrRead(id));
  const v1::JobState state = record->job.state();
  if (state == v1::SUCCEEDED) {
    return StateForbids(id, state, "branch it with more `num_epochs` to train on");
  }
  if (state != v1::PAUSED && state != v1::FAILED && state != v1::CANCELLED) {
    return StateForbids(
        id, state,
        "only a job that is PAUSED, FAILED or CANCELLED can be resumed; pause it first to "
        "have it go back to an earlier checkpoint");
  }
  if (running_.Contains(id)) return RanksHaveNotStopped(id, state);
  if (IsOutOfTime(record->job)) {
    return StateForbids(id, state, "it has no time for another epoch; raise its max_seconds first");
  }
  const bool is_held = state == v1::PAUSED && !record->job.has_start_time();  // Counted already.
  if (!is_held) IMAGEDDPO_RETURN_IF_ERROR(CheckRoom(record->job.owner()));
  const absl::StatusOr<ResolvedJob> job = ResolvedJob::Reopen(record->job.spec());
  if (!job.ok()) return Unrunnable(id, job.status());
  std::string reason = "resumed by request";
  if (epoch.has_value()) {
    CheckpointStore checkpoints = running_.CheckpointsOf(id);
    IMAGEDDPO_RETURN_IF_ERROR(checkpoints.Open());
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(checkpoints.GoBackTo(*epoch), id));
    absl::StrAppend(&reason, " from the checkpoint of epoch ", *epoch);
    record->job.mutable_progress()->set_epoch(*epoch);
  }
  record->restarts_without_epoch = 0;
  IMAGEDDPO_RETURN_IF_ERROR(table_.Transition(*record, v1::QUEUED, reason));
  Enqueue(*record, *job);
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Checkpoint(const std::string& id) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
  const v1::JobState state = record->job.state();
  if (state != v1::STARTING && state != v1::RUNNING && state != v1::PAUSING) {
    return StateForbids(
        id, state,
        "it trains no epoch at whose end a checkpoint could be written; ask for one when "
        "it is RUNNING");
  }
  running_.WantCheckpoint(id);
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Profile(const std::string& id, int64_t num_epochs) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
  if (record->job.state() != v1::RUNNING) {
    return StateForbids(id, record->job.state(), "only epochs under way can be traced");
  }
  IMAGEDDPO_RETURN_IF_ERROR(running_.Profile(id, num_epochs));
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Branch(const std::string& id, std::optional<int64_t> epoch,
                                           NewJob job) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::optional<v1::Job> earlier, FindRepeated(job));
  if (earlier.has_value()) return *std::move(earlier);
  IMAGEDDPO_RETURN_IF_ERROR(CheckOpen());
  IMAGEDDPO_RETURN_IF_ERROR(CheckRoom(job.owner));
  if (!job.job.has_value()) return absl::InternalError("the job to branch was not judged");
  const JobRecord* const unfinished = table_.Find(id);
  IMAGEDDPO_ASSIGN_OR_RETURN(const JobRecord parent, unfinished != nullptr
                                                         ? absl::StatusOr<JobRecord>(*unfinished)
                                                         : table_.store().Get(id));

  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, CheckpointToBranch(id, epoch));
  const absl::StatusOr<ResolvedJob> parent_job = ResolvedJob::Reopen(parent.job.spec());
  if (!parent_job.ok()) return Unrunnable(id, parent_job.status());
  IMAGEDDPO_RETURN_IF_ERROR(CheckBranch(parent_job->spec(), job.job->spec(), checkpoint.epoch()));
  std::vector<std::string> warnings;
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob closed, FitToPool(*job.job, job.model, &warnings));
  for (std::string& warning : closed.Warnings()) warnings.push_back(std::move(warning));

  JobRecord record = RecordOf(std::move(job), closed);
  record.checkpoint_reported = checkpoint.epoch();
  record.job.set_priority(parent.job.priority());
  *record.job.mutable_labels() = parent.job.labels();
  record.job.set_branched_from(id);
  record.job.set_branched_from_epoch(checkpoint.epoch());
  record.job.mutable_progress()->set_epoch(checkpoint.epoch());
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * added, table_.Add(std::move(record), warnings));
  if (const absl::Status status = TakeOver(*added, checkpoint); !status.ok()) {
    const std::string new_id = added->job.id();
    running_.file_system().RemoveAll(table_.store().JobDir(new_id)).IgnoreError();
    if (!table_.Remove(*added).ok()) {
      table_.Transition(*added, v1::FAILED, std::string(status.message())).IgnoreError();
    }
    return Annotate(status, absl::StrCat("the branch of ", id, " could not be written"));
  }
  Enqueue(*added, closed);
  return added->job;
}

absl::StatusOr<v1::Checkpoint> JobService::CheckpointToBranch(const std::string& id,
                                                              std::optional<int64_t> epoch) const {
  CheckpointStore checkpoints = running_.CheckpointsOf(id);
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists,
                             running_.file_system().Exists(checkpoints.directory()));
  CheckpointStore::Found found;
  if (exists && epoch.has_value()) {
    absl::StatusOr<v1::Checkpoint> checkpoint = checkpoints.Get(*epoch);
    return checkpoint.ok() ? checkpoint : Annotate(checkpoint.status(), id);
  }
  if (exists) {
    IMAGEDDPO_ASSIGN_OR_RETURN(found, checkpoints.Newest());
  }
  if (found.checkpoint.has_value()) return *std::move(found.checkpoint);
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          id, " has no complete checkpoint to branch from; it gets its first one after epoch 1")),
      Reason::kNoCheckpoint, {{"job", id}});
}

absl::Status JobService::TakeOver(JobRecord& record, const v1::Checkpoint& checkpoint) {
  v1::Job& job = record.job;
  JobArtifacts artifacts(running_.file_system(), table_.store().JobDir(job.id()));
  IMAGEDDPO_RETURN_IF_ERROR(
      artifacts.TakeRowsOf(table_.store().JobDir(job.branched_from()), checkpoint.epoch()));
  CheckpointStore checkpoints = running_.CheckpointsOf(job.id());
  IMAGEDDPO_RETURN_IF_ERROR(checkpoints.Open());
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string path, checkpoints.Save(checkpoint));
  job.set_lora_path(CheckpointStore::LoraFileIn(path));
  table_.Save(record);
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> JobService::Delete(const std::string& id) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, table_.FindOrRead(id));
  const v1::Job job = record->job;
  if (!IsFinal(job.state())) {
    return StateForbids(id, job.state(),
                        "only a job that has ended can be deleted; cancel it first");
  }
  if (running_.Contains(id)) return RanksHaveNotStopped(id, job.state());
  if (running_.WritesFiles(id)) {  // They would make its folder anew.
    return WithReason(absl::UnavailableError(absl::StrCat(
                          "files of ", id, " are still being written; try again in a few seconds")),
                      Reason::kRanksNotStopped, {{"job", id}});
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckUnused(id));
  FileSystem& files = running_.file_system();
  const std::string folder = table_.store().JobDir(id), deleted = table_.store().DeletedDir(id);
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool has_folder, files.Exists(folder));
  if (has_folder) {
    IMAGEDDPO_RETURN_IF_ERROR(files.RemoveAll(deleted));  // Of a service that died meanwhile.
    IMAGEDDPO_RETURN_IF_ERROR(files.Rename(folder, deleted));
  }
  if (const absl::Status removed = table_.Remove(*record); !removed.ok()) {
    if (has_folder) files.Rename(deleted, folder).IgnoreError();
    return Annotate(removed, absl::StrCat(id, " is not deleted"));
  }
  return job;
}

absl::Status JobService::CheckUnused(const std::string& id) {
  const std::string folder = absl::StrCat(table_.store().JobDir(id), "/");
  for (const JobRecord* other : table_.All()) {
    if (IsFinal(other->job.state())) continue;
    if (!absl::StartsWith(PathOf(other->job.spec().lora().init_from()), folder)) continue;
    return WithReason(
        absl::FailedPreconditionError(absl::StrCat(
            other->job.id(), " is ", StateName(other->job.state()), " and starts from the LoRA of ",
            id, " (lora.init_from); delete ", id, " when that job has ended")),
        Reason::kJobInUse, {{"job", id}, {"used_by", other->job.id()}});
  }
  return absl::OkStatus();
}

}  // namespace imageddpo
