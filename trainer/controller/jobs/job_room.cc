// JobService: whether there is room for a job in the queue, and whether the pool can run it.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/admission.h"
#include "trainer/controller/jobs/device_batch.h"
#include "trainer/controller/jobs/job_service.h"

namespace imageddpo {

absl::Status JobService::CheckRoom(const std::string& owner) const {
  const QueueLimits& limits = dependencies_.limits;
  int64_t unfinished = 0, queued = 0;
  for (const JobRecord* record : table_.All()) {
    const v1::Job& job = record->job;
    if (IsFinal(job.state())) continue;
    ++unfinished;
    const bool is_held = job.state() == v1::PAUSED && !job.has_start_time();
    if (job.owner() == owner && (job.state() == v1::QUEUED || is_held)) ++queued;
  }
  if (limits.max_jobs > 0 && unfinished >= limits.max_jobs) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            "the service has ", unfinished, " jobs that have not ended, and takes ",
            limits.max_jobs,
            " (`queue.max_jobs` in cluster.yaml); cancel some, or try again when some have ended")),
        Reason::kQueueFull, {{"limit", absl::StrCat(limits.max_jobs)}});
  }
  if (limits.queued_jobs_of_owner > 0 && queued >= limits.queued_jobs_of_owner) {
    return WithReason(
        absl::ResourceExhaustedError(absl::StrCat(
            owner.empty() ? "nobody" : owner, " has ", queued,
            " jobs that wait or are held, as many as `quotas.queued_jobs` in cluster.yaml allows "
            "an owner; cancel some, or try again when some have started")),
        Reason::kQuotaExceeded,
        {{"quota", "queued_jobs"},
         {"owner", owner},
         {"limit", absl::StrCat(limits.queued_jobs_of_owner)}});
  }
  return absl::OkStatus();
}

absl::Status JobService::CheckOpen() const {
  if (!dependencies_.is_ending()) return absl::OkStatus();
  return WithReason(
      absl::UnavailableError("the service is about to restart; try again in a few seconds"),
      Reason::kNotReady);
}

absl::StatusOr<ResolvedJob> JobService::FitToPool(const ResolvedJob& job,
                                                  const std::optional<ModelCount>& model,
                                                  std::vector<std::string>* warnings) const {
  absl::StatusOr<ResolvedJob> fitted = CloseForPool(job, model, warnings);
  if (!absl::IsFailedPrecondition(fitted.status())) return fitted;
  return WithReason(fitted.status(), Reason::kPoolTooSmall);
}

absl::StatusOr<ResolvedJob> JobService::CloseForPool(const ResolvedJob& job,
                                                     const std::optional<ModelCount>& model,
                                                     std::vector<std::string>* warnings) const {
  // Workers that died come back with the next restart.
  const int pool_size = scheduler_.MaxGangSize();
  absl::StatusOr<TopologyChoice> first = scheduler_.Choose(job, model, pool_size);
  if (!first.ok() && pool_size < static_cast<int>(scheduler_.workers().size())) {
    return Annotate(first.status(), absl::StrCat("`quotas.running_ranks` in cluster.yaml allows an "
                                                 "owner ",
                                                 pool_size, " ranks at a time"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(TopologyChoice choice, std::move(first));
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
    IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob least,
                               updated.WithMicroBatch(updated.MicroBatchChoices(1).back()));
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

}  // namespace imageddpo
