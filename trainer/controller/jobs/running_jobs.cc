#include "trainer/controller/jobs/running_jobs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/pool/gang_devices.h"

namespace imageddpo {
namespace {

constexpr int64_t kMostTracedEpochs = 100;

}  // namespace

RunningJobs::RunningJobs(const Options& options, Dependencies dependencies)
    : options_(options), dependencies_(std::move(dependencies)), table_(dependencies_.table) {}

ActiveJob* RunningJobs::Find(const std::string& job_id) {
  const auto job = jobs_.find(job_id);
  return job == jobs_.end() ? nullptr : job->second.get();
}

void RunningJobs::Start(const Scheduler::Gang& gang) {
  JobRecord* record = table_.Find(gang.job_id);
  if (record == nullptr) return dependencies_.scheduler.Release(gang.job_id);
  const GangDevices devices = DevicesOf(dependencies_.scheduler.workers(), gang.world_ranks);
  if (const absl::Status sharing =
          CheckSharing(devices, record->job.spec().device().allow_shared_gpus());
      !sharing.ok()) {
    dependencies_.scheduler.Release(gang.job_id);
    table_.Transition(*record, v1::FAILED, std::string(sharing.message())).IgnoreError();
    return;
  }
  record->job.set_topology_reason(gang.topology_reason);
  auto job = std::make_unique<ActiveJob>(
      ActiveJob::Dependencies{
          dependencies_.file_system, dependencies_.clock, table_, dependencies_.hub,
          dependencies_.writer, dependencies_.metrics,
          dependencies_.job_metrics.Get(gang.job_id, record->job.spec().name())},
      *record, gang.job, gang.topology, gang.world_ranks);
  absl::StatusOr<v1::StartJob> start = job->Prepare();
  if (!start.ok()) {
    dependencies_.scheduler.Release(gang.job_id);
    if (const auto fault = FaultOf(start.status()); fault && fault->whose == Whose::kJob) {
      table_.Transition(*record, v1::FAILED, std::string(start.status().message())).IgnoreError();
      return;
    }
    if (const std::string waits = WaitsForDisk(start.status());
        dependencies_.hub.Reason(gang.job_id) != waits) {
      dependencies_.logger->warn("{} {}", gang.job_id, waits);
    }
    // Everything that is prepared lies in the service's own folder: no other error is the job's.
    return dependencies_.recovery.Postpone(*record, start.status());
  }
  dependencies_.recovery.Prepared();
  start->mutable_gang()->set_shares_devices(devices.are_shared);
  if (devices.models.size() > 1) {
    table_.AddWarning(
        *record, absl::StrCat("its ranks compute on GPUs of ", devices.models.size(), " models (",
                              absl::StrJoin(devices.models, ", "),
                              "), which round differently: the same job gives other last bits "
                              "on other ranks; `topology` and the hosts decide who takes part"));
  }
  dependencies_.logger->info("{}: forms a gang of ranks {} ({})", gang.job_id,
                             absl::StrJoin(gang.world_ranks, ", "), gang.topology.ToString());
  for (const int world_rank : gang.world_ranks) {
    v1::ControllerMessage message;
    *message.mutable_start_job() = *start;
    dependencies_.send(world_rank, std::move(message));
  }
  jobs_[gang.job_id] = std::move(job);
}

void RunningJobs::Stop(const std::string& job_id, const std::string& reason) {
  ActiveJob* job = Find(job_id);
  if (job == nullptr) return;
  if (job->gang().AllGone()) return FinishGang(job_id);  // It only waited for the disk.
  if (!job->stopping()) StopGang(*job, reason);
}

void RunningJobs::Tick() {
  for (const ArtifactWriter::Outcome& error : dependencies_.writer.TakeErrors()) {
    JobRecord* record = table_.Find(error.job_id);
    if (record == nullptr) continue;
    table_.AddWarning(
        *record, absl::StrCat(error.what,
                              error.given_up ? " could not be written: " : " wait for the disk: ",
                              error.status.message()));
  }
  std::vector<std::string> without_ranks;
  for (const auto& [job_id, job] : jobs_) {
    if (job->gang().AllGone()) {
      without_ranks.push_back(job_id);
    } else if (!IsFinal(job->record().job.state())) {
      if (job->write_failed() && !job->TooEarly()) job->WriteKept();
      StopIfOutOfTime(*job);
    }
  }
  for (const std::string& job_id : without_ranks) FinishGang(job_id);
}

void RunningJobs::StopIfOutOfTime(ActiveJob& job) {
  JobRecord& record = job.record();
  const v1::JobState state = record.job.state();
  if (!job.CountSeconds() || job.stopping()) return;
  if (state == v1::STARTING || state == v1::RUNNING) {
    if (!table_.Transition(record, v1::PAUSING, PauseReason(record.job)).ok()) return;
  } else if (state != v1::PAUSING) {
    return;
  }
  StopGang(job, PauseReason(record.job));
}

void RunningJobs::Preempt(const std::string& job_id, const std::string& by) {
  ActiveJob* job = Find(job_id);
  if (job == nullptr || job->stopping()) return;
  JobRecord& record = job->record();
  const v1::JobState state = record.job.state();
  if (state != v1::STARTING && state != v1::RUNNING) return;
  record.job.mutable_progress()->set_preempted_by(by);
  if (!table_.Transition(record, v1::PAUSING, PauseReason(record.job)).ok()) return;
  if (state == v1::RUNNING) {
    job->WantCheckpoint();
  } else {  // It has no epoch under way.
    StopGang(*job, PauseReason(record.job));
  }
}

GangForecasts RunningJobs::Forecasts() const {
  GangForecasts forecasts;
  for (const auto& [job_id, job] : jobs_) forecasts.emplace(job_id, job->Forecast());
  return forecasts;
}

void RunningJobs::WantCheckpoint(const std::string& job_id) {
  if (ActiveJob* job = Find(job_id); job != nullptr) job->WantCheckpoint();
}

absl::Status RunningJobs::Profile(const std::string& job_id, int64_t num_epochs) {
  if (num_epochs < 1 || num_epochs > kMostTracedEpochs) {
    return InvalidField("num_epochs", absl::StrCat("is ", num_epochs, "; it must be from 1 to ",
                                                   kMostTracedEpochs));
  }
  ActiveJob* job = Find(job_id);
  if (job == nullptr) return absl::OkStatus();
  for (const int world_rank : job->gang().Working()) {
    v1::ControllerMessage message;
    message.mutable_profile()->set_job_id(job_id);
    message.mutable_profile()->set_folder(
        absl::StrFormat("epoch-%06d", job->record().job.progress().epoch()));
    message.mutable_profile()->set_num_epochs(num_epochs);
    dependencies_.send(world_rank, std::move(message));
  }
  return absl::OkStatus();
}

void RunningJobs::MoveOff(const std::string& job_id, const std::string& reason) {
  if (ActiveJob* job = Find(job_id); job != nullptr && !job->closed()) job->MoveOff(reason);
}

void RunningJobs::WantCheckpoints() {
  WriteFinishedEpochs();
  for (const auto& [job_id, job] : jobs_) job->WantCheckpoint();
}

bool RunningJobs::AwaitsCheckpoints() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& entry) { return entry.second->AwaitsCheckpoint(); });
}

void RunningJobs::WriteFinishedEpochs() {
  for (const auto& [job_id, job] : jobs_) {
    if (!IsFinal(job->record().job.state())) job->WriteKept();
  }
}

bool RunningJobs::WritesFiles(const std::string& job_id) const {
  return dependencies_.writer.HasWork(job_id);
}

CheckpointStore RunningJobs::CheckpointsOf(const std::string& job_id) const {
  return {dependencies_.file_system, absl::StrCat(table_.store().JobDir(job_id), "/checkpoints")};
}

void RunningJobs::StopGang(ActiveJob& job, const std::string& reason) {
  job.StopBy(dependencies_.clock.NowSeconds() + options_.stop_timeout_seconds);
  for (const int world_rank : job.gang().Working()) {
    v1::ControllerMessage message;
    message.mutable_stop_job()->set_job_id(job.record().job.id());
    message.mutable_stop_job()->set_reason(reason);
    dependencies_.send(world_rank, std::move(message));
  }
}

std::vector<RunningJobs::StuckRank> RunningJobs::StuckRanks() const {
  const double now_s = dependencies_.clock.NowSeconds();
  std::vector<StuckRank> stuck;
  for (const auto& [job_id, job] : jobs_) {
    if (!job->StopOverdue(now_s)) continue;
    for (const int rank : job->gang().Working()) {
      stuck.push_back({rank, absl::StrCat("did not stop ", job_id, " within ",
                                          options_.stop_timeout_seconds, " s")});
    }
  }
  return stuck;
}

}  // namespace imageddpo
