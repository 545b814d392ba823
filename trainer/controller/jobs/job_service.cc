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
  if (dependencies_.is_ending()) {
    return absl::UnavailableError("the service is about to restart; try again in a few seconds");
  }
  if (!job.job.has_value()) return absl::InternalError("the job to submit was not judged");
  std::vector<std::string> warnings;
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob closed, FitToPool(*job.job, job.model, &warnings));
  for (std::string& warning : closed.Warnings()) warnings.push_back(std::move(warning));
  JobRecord record;
  record.request_id = std::move(job.request_id);
  record.request_sha256 = std::move(job.request_sha256);
  *record.job.mutable_spec() = closed.spec();
  record.job.mutable_progress()->set_num_epochs(record.job.spec().num_epochs());
  record.job.mutable_progress()->set_seconds_left(-1);
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * added, table_.Add(std::move(record), warnings));
  scheduler_.Enqueue(added->number, added->job.id(), closed);
  return added->job;
}

absl::StatusOr<ResolvedJob> JobService::FitToPool(const ResolvedJob& job,
                                                  const std::optional<ModelCount>& model,
                                                  std::vector<std::string>* warnings) const {
  // Workers that died come back with the next restart.
  IMAGEDDPO_ASSIGN_OR_RETURN(const Topology topology,
                             ResolveTopology(job, static_cast<int>(scheduler_.workers().size())));
  if (job.precision() == Precision::kFp16 && !scheduler_.OnGpus()) {
    return absl::FailedPreconditionError(
        "`model.precision: fp16` needs GPUs and this pool has workers without; use `bf16`");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      ResolvedJob closed,
      ChooseMicroBatch(job, topology, model, scheduler_.MemoryOfRank(topology.ranks()),
                       scheduler_.OnGpus() ? kMostSamplesOnGpu : kMostSamplesOnCpu, warnings));
  if (closed.spec().device().num_threads() != 0) return closed;
  const int threads =
      ChooseNumThreads(topology, scheduler_.MinCoresPerHost(), scheduler_.MaxWorkersPerHost());
  return closed.With([&](v1::JobSpec* spec) { spec->mutable_device()->set_num_threads(threads); });
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

}  // namespace imageddpo
