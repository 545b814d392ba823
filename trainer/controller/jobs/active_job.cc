#include "trainer/controller/jobs/active_job.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/compare/job_difference.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {
namespace {

/// Every setting of a job that has a value, by its name.
std::map<std::string, std::string> SettingTexts(const v1::JobSpec& spec) {
  std::map<std::string, std::string> settings;
  for (SettingDifference& found : DifferentSettings(v1::JobSpec(), spec)) {
    settings.emplace(std::move(found.setting), std::move(found.after));
  }
  return settings;
}

}  // namespace

ActiveJob::ActiveJob(const Dependencies& dependencies, JobRecord& record, const ResolvedJob& job,
                     const Topology& topology, const std::vector<int>& world_ranks)
    : dependencies_(dependencies),
      record_(record),
      job_(job),
      topology_(topology),
      world_ranks_(world_ranks),
      gang_(world_ranks),
      artifacts_(dependencies.file_system, dependencies.table.store().JobDir(record.job.id())),
      tensorboard_(dependencies.file_system, dependencies.clock, artifacts_.directory(),
                   std::max<int64_t>(1, job.plan().updates_per_inner_epoch *
                                            job.spec().train().num_inner_epochs()),
                   SettingTexts(job.spec())),
      checkpoints_(dependencies.file_system, absl::StrCat(artifacts_.directory(), "/checkpoints")),
      formed_s_(dependencies.clock.NowSeconds()),
      run_before_s_(record.job.progress().run_seconds()) {}

absl::StatusOr<v1::StartJob> ActiveJob::Prepare() {
  v1::Job& job = record_.job;
  IMAGEDDPO_RETURN_IF_ERROR(artifacts_.Begin(job_.spec()));
  IMAGEDDPO_RETURN_IF_ERROR(checkpoints_.Open());
  IMAGEDDPO_ASSIGN_OR_RETURN(CheckpointStore::Found found, checkpoints_.Newest());
  for (const std::string& warning : found.warnings)
    dependencies_.table.AddWarning(record_, warning);
  if (!found.checkpoint.has_value() && !job.branched_from().empty()) {
    return WithFault(
        absl::DataLossError(absl::StrCat("it has no complete checkpoint, not even that of epoch ",
                                         job.branched_from_epoch(), " of ", job.branched_from(),
                                         ", from which it was branched; branch it again")),
        {.whose = Whose::kJob, .passes = false});
  }
  const int64_t epoch = found.checkpoint.has_value() ? found.checkpoint->epoch() : 0;
  written_epoch_ = epoch;
  IMAGEDDPO_RETURN_IF_ERROR(artifacts_.CutBackTo(epoch));
  WarnIfError(tensorboard_.ContinueFrom(epoch));
  if (job_.best().has_value()) {
    std::vector<std::string> warnings;
    IMAGEDDPO_ASSIGN_OR_RETURN(best_, checkpoints_.LoadBest(job_.best()->mode, &warnings));
    for (const std::string& warning : warnings) dependencies_.table.AddWarning(record_, warning);
    ShowBest();
  }

  v1::JobProgress& progress = *job.mutable_progress();
  progress.set_epoch(epoch);
  progress.set_num_epochs(job_.spec().num_epochs());
  progress.set_samples_seen(epoch * job_.plan().samples_per_epoch);
  progress.set_epoch_samples(job_.plan().samples_per_epoch);
  progress.set_epoch_samples_done(0);
  progress.set_seconds_left(-1);
  progress.set_stage("loading");
  progress.clear_waiting_for();
  job.set_topology(topology_.ToString());
  job.set_lora_path(found.checkpoint.has_value() ? CheckpointStore::LoraFileIn(found.path) : "");
  dependencies_.metrics->Started(job.topology(), progress.num_epochs(),
                                 dependencies_.clock.UnixSeconds());
  dependencies_.metrics->Waiting(false);

  last_write_s_ = dependencies_.clock.NowSeconds();
  const bool resumes = job.has_start_time();
  std::string reason;
  if (resumes) {
    job.set_resume_count(job.resume_count() + 1);
    job.set_resumed_from_epoch(epoch);
    dependencies_.metrics->Resumed();
    reason = found.checkpoint.has_value()
                 ? absl::StrCat("goes on from the checkpoint of epoch ", epoch)
                 : "starts again: there is no complete checkpoint yet";
  } else if (!job.branched_from().empty()) {
    reason =
        absl::StrCat("starts from the checkpoint of epoch ", epoch, " of ", job.branched_from());
  }
  IMAGEDDPO_RETURN_IF_ERROR(dependencies_.table.Transition(record_, v1::STARTING, reason));
  ShowProgress();

  tag_ = NewTag();
  v1::StartJob start;
  start.set_job_id(job.id());
  *start.mutable_spec() = job_.spec();
  *start.mutable_gang() = MakeGangLayout(topology_, world_ranks_, tag_);
  if (found.checkpoint.has_value()) {
    *start.mutable_resume_from() = *std::move(found.checkpoint);
    start.mutable_resume_from()->set_job_id(job.id());
  }
  return start;
}

std::string ActiveJob::NewTag() const {
  const auto unix_ms = static_cast<int64_t>(dependencies_.clock.UnixSeconds() * 1000);
  return absl::StrCat(record_.job.id(), ".", record_.job.resume_count(), ".", unix_ms);
}

void ActiveJob::Running() {
  if (record_.job.state() != v1::STARTING) return;
  dependencies_.table.Transition(record_, v1::RUNNING, "").IgnoreError();
}

void ActiveJob::ShowProgress() {
  dependencies_.hub.SetProgress(record_.job.id(), record_.job.progress());
}

void ActiveJob::WarnIfError(const absl::Status& status) {
  if (!status.ok()) dependencies_.table.AddWarning(record_, std::string(status.message()));
}

ArtifactWriter::Folder ActiveJob::OneFile(TensorBoardLog::File file) const {
  ArtifactWriter::Folder folder{record_.job.id(), std::move(file.directory), {}};
  if (!file.content.empty()) {
    folder.files.emplace_back(std::move(file.name), std::move(file.content));
  }
  return folder;
}

void ActiveJob::PutPictures(ArtifactWriter::Folder folder) {
  if (!folder.files.empty()) WarnIfError(dependencies_.writer.Put(std::move(folder)));
}

void ActiveJob::Tried(const absl::Status& status) {
  const bool failed_before = write_backoff_.failing();
  if (status.ok()) {
    write_backoff_.Worked();
    if (failed_before) dependencies_.table.SetReason(record_, "");
    return;
  }
  write_backoff_.Failed(dependencies_.clock.NowSeconds());
  if (!failed_before) {
    dependencies_.table.AddWarning(
        record_, absl::StrCat(status.message(),
                              "; it is kept in memory and tried again, and until then a death of "
                              "rank 0 would take the job back to the one before"));
  }
  dependencies_.table.SetReason(record_, WaitsForDisk(status));
}

double ActiveJob::MeanEpochSeconds() const {
  if (epoch_seconds_.empty()) return -1;
  const double total = std::accumulate(epoch_seconds_.begin(), epoch_seconds_.end(), 0.0);
  return total / static_cast<double>(epoch_seconds_.size());
}

double ActiveJob::SecondsLeft() const {
  const v1::JobProgress& progress = record_.job.progress();
  const int64_t epochs_left = std::max<int64_t>(0, progress.num_epochs() - progress.epoch());
  if (epochs_left == 0) return 0;
  const double mean_s = MeanEpochSeconds();
  return mean_s < 0 ? -1 : mean_s * static_cast<double>(epochs_left);
}

bool ActiveJob::CountSeconds() {
  v1::Job& job = record_.job;
  const double now_s = dependencies_.clock.NowSeconds();
  if (gang_.AllGone() && !gone_s_.has_value()) gone_s_ = now_s;  // It may wait for the disk yet.
  const double run_s = run_before_s_ + gone_s_.value_or(now_s) - formed_s_;
  job.mutable_progress()->set_run_seconds(run_s);
  return job.max_seconds() > 0 && run_s >= job.max_seconds();
}

GangForecast ActiveJob::Forecast() const {
  const v1::Job& job = record_.job;
  const v1::JobState state = job.state();
  const double now_s = dependencies_.clock.NowSeconds();
  GangForecast forecast{.priority = job.priority(),
                        .leaves = stopping() || (state != v1::STARTING && state != v1::RUNNING)};
  const double from_report_s = forecast.leaves ? MeanEpochSeconds() : SecondsLeft();
  if (stopping()) {
    forecast.seconds_left = 0;
  } else if (from_report_s >= 0) {
    forecast.seconds_left = std::max(0.0, from_report_s - (now_s - last_report_s_));
  }
  if (job.max_seconds() > 0) {
    const double run_s = run_before_s_ + now_s - formed_s_;
    forecast.seconds_left =
        std::min(forecast.seconds_left, std::max(0.0, job.max_seconds() - run_s));
  }
  return forecast;
}

}  // namespace imageddpo
