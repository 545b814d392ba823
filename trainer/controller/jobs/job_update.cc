// JobService::Update and Retire: what may change of a job, and when.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/job_service.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/store/job_labels.h"

namespace imageddpo {

absl::StatusOr<v1::Job> JobService::Update(const v1::UpdateJobRequest& request) {
  const std::string& id = request.id();
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, table_.FindOrRead(id));
  if (!request.has_priority() && !request.has_max_seconds() && !request.has_num_epochs() &&
      request.labels().empty()) {
    return absl::InvalidArgumentError(
        "nothing to update was given; what can change is priority, max_seconds, num_epochs and "
        "labels");
  }
  JobRecord changed = *record;
  IMAGEDDPO_RETURN_IF_ERROR(SetLabels(request.labels(), &changed.job));
  if (request.has_priority()) {
    IMAGEDDPO_RETURN_IF_ERROR(CheckPriority(request.priority()));
    if (IsFinal(changed.job.state())) {
      return StateForbids(id, changed.job.state(), "it waits for no ranks, so it has no priority");
    }
    changed.job.set_priority(request.priority());
  }
  if (request.has_max_seconds()) {
    IMAGEDDPO_RETURN_IF_ERROR(CheckMaxSeconds(request.max_seconds()));
    if (changed.job.state() == v1::SUCCEEDED) {
      return StateForbids(id, changed.job.state(), "no ranks will work for it any more");
    }
    changed.job.set_max_seconds(request.max_seconds());
  }
  if (request.has_num_epochs()) {
    IMAGEDDPO_RETURN_IF_ERROR(UpdateEpochs(changed, request.num_epochs()));
  }
  const bool is_queued = scheduler_.IsQueued(id);
  if (is_queued) {  // With its new settings, at its new place.
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob job, ResolvedJob::Reopen(changed.job.spec()));
    scheduler_.RemoveFromQueue(id);
    Enqueue(changed, job);
  }
  *record = std::move(changed);
  table_.Save(*record);
  return record->job;
}

absl::Status JobService::UpdateEpochs(JobRecord& record, int64_t num_epochs) {
  v1::Job& job = record.job;
  const std::string& id = job.id();
  if (running_.Contains(id)) {
    return StateForbids(
        id, job.state(),
        "its ranks train with the number of epochs that they started with; pause it, "
        "update it and resume it");
  }
  if (job.state() == v1::SUCCEEDED) {
    return StateForbids(id, job.state(), "branch it with another `num_epochs` to train on");
  }
  if (job.spec().num_epochs() == 0) {
    return InvalidField("num_epochs",
                        absl::StrCat("cannot change: ", id,
                                     " is an evaluation (`num_epochs: 0`), which has no epochs"));
  }
  if (num_epochs < std::max<int64_t>(1, job.progress().epoch())) {
    return InvalidField("num_epochs", absl::StrCat("is ", num_epochs, ", and ", id, " has trained ",
                                                   job.progress().epoch(),
                                                   " epochs; give no fewer, and at least 1"));
  }
  const absl::StatusOr<ResolvedJob> old = ResolvedJob::Reopen(job.spec());
  if (!old.ok()) return Unrunnable(id, old.status());
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob updated, old->With([&](v1::JobSpec* spec) {
    spec->set_num_epochs(num_epochs);
  }));
  *job.mutable_spec() = updated.spec();
  job.mutable_progress()->set_num_epochs(num_epochs);
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> JobService::Retire(const std::string& id,
                                           const std::vector<std::string>& names) {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, table_.FindOrRead(id));
  const v1::Job job = record->job;
  if (!IsFinal(job.state()) || running_.Contains(id) || running_.WritesFiles(id)) {
    return StateForbids(id, job.state(), "only files of jobs that have ended are removed");
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckUnused(id));
  FileSystem& files = running_.file_system();
  for (const std::string& name : names) {
    const std::string folder = absl::StrCat(table_.store().JobDir(id), "/", name);
    const std::string retired = table_.store().RetiredDir(id, name);
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, files.Exists(folder));
    if (!exists) continue;
    IMAGEDDPO_RETURN_IF_ERROR(files.RemoveAll(retired));  // Of a service that died meanwhile.
    IMAGEDDPO_RETURN_IF_ERROR(files.Rename(folder, retired));
  }
  return job;
}

}  // namespace imageddpo
