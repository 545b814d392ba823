#include "trainer/controller/jobs/job_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/admission.h"
#include "trainer/controller/jobs/device_batch.h"

namespace imageddpo {

JobService::JobService(Dependencies dependencies)
    : dependencies_(std::move(dependencies)),
      table_(dependencies_.table),
      scheduler_(dependencies_.scheduler),
      running_(dependencies_.running) {}

absl::StatusOr<JobRecord*> JobService::Unfinished(const std::string& id) {
  JobRecord* record = table_.Find(id);
  if (record != nullptr && !IsFinal(record->job.state())) return record;
  IMAGEDDPO_ASSIGN_OR_RETURN(const JobRecord stored, table_.store().Get(id));
  return absl::FailedPreconditionError(
      absl::StrCat(id, " has already ended: ",
                   StateName(record == nullptr ? stored.job.state() : record->job.state())));
}

absl::StatusOr<v1::Job> JobService::Submit(NewJob job) {
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
  IMAGEDDPO_RETURN_IF_ERROR(CheckOpen());
  if (!job.job.has_value()) return absl::InternalError("the job to submit was not judged");
  std::vector<std::string> warnings;
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob closed, FitToPool(*job.job, job.model, &warnings));
  for (std::string& warning : closed.Warnings()) warnings.push_back(std::move(warning));
  JobRecord record;
  record.request_id = std::move(job.request_id);
  record.request_sha256 = std::move(job.request_sha256);
  record.job.set_owner(std::move(job.owner));
  record.model = job.model;
  *record.job.mutable_spec() = closed.spec();
  record.job.mutable_progress()->set_num_epochs(record.job.spec().num_epochs());
  record.job.mutable_progress()->set_seconds_left(-1);
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * added, table_.Add(std::move(record), warnings));
  scheduler_.Enqueue(added->number, added->job.id(), closed, /*recovers=*/false, added->model);
  return added->job;
}

absl::Status JobService::CheckOpen() const {
  if (!dependencies_.is_ending()) return absl::OkStatus();
  return absl::UnavailableError("the service is about to restart; try again in a few seconds");
}

absl::StatusOr<ResolvedJob> JobService::FitToPool(const ResolvedJob& job,
                                                  const std::optional<ModelCount>& model,
                                                  std::vector<std::string>* warnings) const {
  // Workers that died come back with the next restart.
  const auto pool_size = static_cast<int>(scheduler_.workers().size());
  IMAGEDDPO_ASSIGN_OR_RETURN(TopologyChoice choice, scheduler_.Choose(job, model, pool_size));
  if (job.precision() == Precision::kFp16 && !scheduler_.OnGpus()) {
    return absl::FailedPreconditionError(
        "`model.precision: fp16` needs GPUs and this pool has workers without; use `bf16`");
  }
  const auto memory = [&] { return scheduler_.MemoryOfRank(choice.topology.ranks()); };
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob updated, CloseUpdate(job, model, memory().share));
  const auto close = [&] {
    return ChooseMicroBatch(updated, choice.topology, model, memory(),
                            scheduler_.OnGpus() ? kMostSamplesOnGpu : kMostSamplesOnCpu, warnings);
  };
  absl::StatusOr<ResolvedJob> closed = close();
  if (!closed.ok() && IsAuto(job.spec().topology())) {
    // Ranks that do one thing each need less than colocated ones.
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob least, updated.WithMicroBatch(1));
    IMAGEDDPO_ASSIGN_OR_RETURN(choice, scheduler_.Choose(least, model, pool_size));
    if (choice.fits) closed = close();
  }
  IMAGEDDPO_RETURN_IF_ERROR(closed.status());
  if (closed->spec().device().num_threads() != 0) return closed;
  // A smaller micro-batch may give more ranks work.
  IMAGEDDPO_ASSIGN_OR_RETURN(choice, scheduler_.Choose(*closed, model, pool_size));
  const int threads = ChooseNumThreads(choice.topology, scheduler_.MinCoresPerHost(),
                                       scheduler_.MaxWorkersPerHost());
  return closed->With([&](v1::JobSpec* spec) { spec->mutable_device()->set_num_threads(threads); });
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
  if (state == v1::CANCELLING) {
    return absl::FailedPreconditionError(absl::StrCat(
        id, " is being cancelled and cannot be paused; resume it when it is CANCELLED"));
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
    return absl::FailedPreconditionError(absl::StrCat(
        id, " has already ended: SUCCEEDED; submit a new job, with `lora.init_from` to train on"));
  }
  if (state != v1::PAUSED && state != v1::FAILED && state != v1::CANCELLED) {
    return absl::FailedPreconditionError(
        absl::StrCat(id, " is ", StateName(state),
                     ": only a job that is PAUSED, FAILED or CANCELLED can be resumed; pause it "
                     "first to have it go back to an earlier checkpoint"));
  }
  if (running_.Contains(id)) {
    return absl::FailedPreconditionError(
        absl::StrCat(id, " is ", StateName(state),
                     ", but some of its ranks have not stopped yet; try again in a few seconds"));
  }
  const absl::StatusOr<ResolvedJob> job = ResolvedJob::Reopen(record->job.spec());
  if (!job.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this version cannot run ", id, ": ", job.status().message()));
  }
  std::string reason = "resumed by request";
  if (epoch.has_value()) {
    CheckpointStore checkpoints = running_.CheckpointsOf(id);
    IMAGEDDPO_RETURN_IF_ERROR(checkpoints.Open());
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(checkpoints.GoBackTo(*epoch), id));
    absl::StrAppend(&reason, " from the checkpoint of epoch ", *epoch);
  }
  record->restarts_without_epoch = 0;
  IMAGEDDPO_RETURN_IF_ERROR(table_.Transition(*record, v1::QUEUED, reason));
  scheduler_.Enqueue(record->number, id, *job, /*recovers=*/false, record->model);
  return record->job;
}

absl::StatusOr<v1::Job> JobService::Checkpoint(const std::string& id) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
  const v1::JobState state = record->job.state();
  if (state != v1::STARTING && state != v1::RUNNING && state != v1::PAUSING) {
    return absl::FailedPreconditionError(
        absl::StrCat(id, " is ", StateName(state),
                     " and trains no epoch at whose end a checkpoint could be written; ask for one "
                     "when it is RUNNING"));
  }
  running_.WantCheckpoint(id);
  return record->job;
}

}  // namespace imageddpo
