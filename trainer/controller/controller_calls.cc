// Controller: what calls of the API do on their own threads, before and beside the controller's.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/config/job_config.h"
#include "common/config/job_states.h"
#include "common/io/file.h"
#include "common/plan/job_model.h"
#include "trainer/controller/api/page_token.h"
#include "trainer/controller/controller.h"
#include "trainer/controller/jobs/admission.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kWorkersTimeout = absl::Seconds(20);
constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 500;
constexpr size_t kMaxPageBytes = 3 << 20;  // Clients take messages of at most 4 MiB.
constexpr int kJobsPerRead = 100;
constexpr size_t kMaxRequestIdLength = 128;

/// Whether a job of an earlier request has this id.
absl::StatusOr<bool> IsRepeated(const JobStore& store, const std::string& request_id) {
  if (request_id.size() > kMaxRequestIdLength) {
    return InvalidField("request_id", absl::StrCat("has ", request_id.size(), " bytes; at most ",
                                                   kMaxRequestIdLength, " are allowed"));
  }
  if (request_id.empty()) return false;
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::optional<JobRecord> earlier,
                             store.FindByRequestId(request_id));
  return earlier.has_value();
}

}  // namespace

absl::Status Controller::CheckDiskQuota(const std::string& owner) {
  const int64_t most = cluster_.quotas.disk_bytes;
  if (most == 0) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t bytes, disk_use_.BytesOf(owner));
  if (bytes < most) return absl::OkStatus();
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                        "the files of the jobs of ", owner.empty() ? "nobody" : owner, " have ",
                        bytes, " bytes, and `quotas.disk_bytes` in cluster.yaml allows an owner ",
                        most, "; delete jobs that have ended, then try again after a minute")),
                    Reason::kQuotaExceeded,
                    {{"quota", "disk_bytes"}, {"owner", owner}, {"limit", absl::StrCat(most)}});
}

absl::Status Controller::Admit(const v1::JobSpec& spec, const Caller& caller, const TimeLeft& left,
                               JobService::NewJob* job) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(cluster_.data_dir, error);
  if (const int64_t least = cluster_.retention.min_free_bytes;
      !error && least > 0 && space.available < static_cast<uintmax_t>(least)) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "the disk of data_dir has ", space.available,
            " bytes free, fewer than `retention.min_free_bytes` in cluster.yaml (", least,
            "); no job is taken before some are freed: delete jobs that have ended")),
        Reason::kDiskFull, {{"limit", absl::StrCat(least)}});
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckDiskQuota(caller.owner));
  v1::JobSpec named = spec;
  IMAGEDDPO_RETURN_IF_ERROR(NameLoraOfJob(dependencies_.store, &named));
  IMAGEDDPO_ASSIGN_OR_RETURN(job->job, AdmitJob(named, cluster_, caller.role == Role::kAdmin));
  if (absl::StatusOr<ModelCount> model = CountJobModel(*job->job); model.ok()) job->model = *model;
  // The workers report the numbers of cores and the memory.
  return WaitForWorkers(std::min(left.Get(), kWorkersTimeout));
}

absl::StatusOr<v1::Job> Controller::Submit(const v1::SubmitJobRequest& request,
                                           const Caller& caller, absl::Duration timeout) {
  const TimeLeft left(dependencies_.clock, timeout);
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool is_repeated,
                             IsRepeated(dependencies_.store, request.request_id()));
  JobService::NewJob job{.request_id = request.request_id(),
                         .request_sha256 = RequestSha256(request.job()),
                         .owner = caller.owner,
                         .priority = request.priority(),
                         .labels = request.labels(),
                         .max_seconds = request.max_seconds(),
                         .hold = request.hold()};
  // A repeated request returns its job even if the files that it names no longer exist.
  if (!is_repeated) IMAGEDDPO_RETURN_IF_ERROR(Admit(request.job(), caller, left, &job));
  return Do([job = std::move(job)](JobService& jobs) { return jobs.Submit(job); }, left.Get());
}

void Controller::ShowLive(v1::Job* job) const {
  if (IsFinal(job->state())) return;
  if (const auto progress = dependencies_.hub.Progress(job->id()); progress.has_value())
    *job->mutable_progress() = *progress;
  if (std::string reason = dependencies_.hub.Reason(job->id()); !reason.empty())
    job->set_state_reason(std::move(reason));
}

absl::StatusOr<v1::Job> Controller::Branch(const v1::BranchJobRequest& request,
                                           const Caller& caller, absl::Duration timeout) {
  const TimeLeft left(dependencies_.clock, timeout);
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool is_repeated,
                             IsRepeated(dependencies_.store, request.request_id()));
  v1::BranchJobRequest asked = request;
  asked.clear_request_id();
  JobService::NewJob job{.request_id = request.request_id(),
                         .request_sha256 = Sha256Hex(asked.SerializeAsString()),
                         .owner = caller.owner};
  if (!is_repeated) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const JobRecord parent, dependencies_.store.Get(request.id()));
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob before, ResolvedJob::Reopen(parent.job.spec()));
    v1::JobSpec spec = before.spec();
    for (const std::string& setting : request.settings()) {
      IMAGEDDPO_RETURN_IF_ERROR(Annotate(ApplyJobSetting(setting, &spec), "settings"));
    }
    IMAGEDDPO_RETURN_IF_ERROR(Admit(spec, caller, left, &job));
  }
  std::optional<int64_t> epoch;
  if (request.has_epoch()) epoch = request.epoch();
  return Do([id = request.id(), epoch,
             job = std::move(job)](JobService& jobs) { return jobs.Branch(id, epoch, job); },
            left.Get());
}

absl::StatusOr<v1::Job> Controller::Get(const std::string& id) const {
  IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord record, dependencies_.store.Get(id));
  ShowLive(&record.job);
  return std::move(record.job);
}

absl::StatusOr<v1::ListJobsResponse> Controller::List(const v1::ListJobsRequest& request) const {
  if (request.page_size() < 0) {
    return InvalidField("page_size",
                        absl::StrCat("is ", request.page_size(), "; it must not be negative"));
  }
  const int page_size =
      request.page_size() == 0 ? kDefaultPageSize : std::min(request.page_size(), kMaxPageSize);
  IMAGEDDPO_ASSIGN_OR_RETURN(int64_t before, ReadPageToken(request.page_token()));
  v1::ListJobsResponse response;
  size_t page_bytes = 0;
  for (bool more = true; more;) {
    const int wanted = std::min(kJobsPerRead, page_size - response.jobs_size() + 1);
    IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<JobRecord> records,
                               dependencies_.store.List(before, wanted));
    more = records.size() == static_cast<size_t>(wanted);
    for (JobRecord& record : records) {
      ShowLive(&record.job);
      page_bytes += record.job.ByteSizeLong();
      const bool is_full = response.jobs_size() == page_size ||
                           (response.jobs_size() > 0 && page_bytes > kMaxPageBytes);
      if (is_full) {
        response.set_next_page_token(MakePageToken(before));
        return response;
      }
      before = record.number;
      *response.add_jobs() = std::move(record.job);
    }
  }
  return response;
}

}  // namespace imageddpo
