// What the ranks of a gang report, and what becomes of it on disk.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/jobs/active_job.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/store/job_log.h"

namespace imageddpo {
namespace {

constexpr size_t kEpochsForEstimate = 10;
constexpr double kSecondsPerMinute = 60;

}  // namespace

void ActiveJob::OnProgress(const v1::Progress& report) {
  if (report.stage() != "loading") Running();
  v1::JobProgress& progress = *record_.job.mutable_progress();
  progress.set_stage(report.stage());
  progress.set_epoch_samples_done(report.samples_done());
  if (report.samples_total() > 0) progress.set_epoch_samples(report.samples_total());
  ShowProgress();
}

void ActiveJob::OnData(const v1::DataReport& report) {
  v1::JobProgress& progress = *record_.job.mutable_progress();
  progress.set_data_images(report.num_images());
  progress.set_data_images_listed(report.num_listed());
  dependencies_.table.Save(record_);
}

void ActiveJob::OnWaiting(int world_rank, const v1::Waiting& report) {
  v1::JobProgress& progress = *record_.job.mutable_progress();
  if (report.what().empty()) {
    waiting_.erase(world_rank);
  } else {
    waiting_[world_rank] = report.what();
  }
  const bool was_waiting = !progress.waiting_for().empty();
  progress.set_waiting_for(waiting_.empty() ? "" : waiting_.begin()->second);
  dependencies_.metrics->Waiting(!waiting_.empty());
  ShowProgress();
  if (!was_waiting && !waiting_.empty()) {
    dependencies_.table.AddWarning(record_,
                                   absl::StrCat("the job waits for ", progress.waiting_for()));
  } else {
    dependencies_.table.Save(record_);
  }
}

void ActiveJob::OnRewardCall(const v1::RewardCall& report) {
  dependencies_.service_metrics.RewardCalled(report.ok(), report.seconds());
  if (!report.ok()) dependencies_.metrics->RewardCallFailed();
}

void ActiveJob::OnTrace(int world_rank, v1::Trace trace) {
  PutPictures({record_.job.id(),
               absl::StrCat(artifacts_.directory(), "/profile/", trace.folder()),
               {{absl::StrCat("rank-", world_rank, ".json"), std::move(*trace.mutable_json())}}});
}

void ActiveJob::OnLog(int world_rank, const v1::LogReport& report) {
  // What is left out can be told nowhere else than in the service's own log, which has the line.
  dependencies_.writer
      .Append({.job_id = record_.job.id(),
               .directory = artifacts_.directory(),
               .name = kLogName,
               .text = LogRow(world_rank, report),
               .max_file_bytes = kMaxLogFileBytes})
      .IgnoreError();
}

void ActiveJob::OnEpoch(v1::EpochReport report) {
  Running();
  const v1::EpochMetrics& metrics = report.metrics();
  WarnIfError(artifacts_.WriteEpoch(report));
  WarnIfError(tensorboard_.WriteEpoch(report));
  PutPictures(OneFile(tensorboard_.SamplesFile(report)));
  PutPictures(artifacts_.TakePictures(&report));
  dependencies_.metrics->EpochFinished(metrics, job_.plan().samples_per_epoch,
                                       dependencies_.clock.UnixSeconds());
  dependencies_.service_metrics.EpochFinished(metrics.stage_seconds());

  const double now_s = dependencies_.clock.NowSeconds();
  epoch_seconds_.push_back(epoch_seconds_.empty() ? metrics.epoch_seconds()
                                                  : now_s - last_report_s_);
  if (epoch_seconds_.size() > kEpochsForEstimate) epoch_seconds_.pop_front();
  last_report_s_ = now_s;

  v1::JobProgress& progress = *record_.job.mutable_progress();
  progress.set_epoch(metrics.epoch() + 1);
  progress.set_samples_seen(metrics.samples_seen());
  CountSeconds();
  *progress.mutable_newest_epoch() = metrics;
  progress.set_epoch_samples_done(0);
  progress.set_ratio_first_step_max_error(
      std::max(progress.ratio_first_step_max_error(), metrics.ratio_first_step_max_error()));
  progress.set_seconds_left(SecondsLeft());
  ShowProgress();

  if (metrics.epoch() < record_.epochs_reported) {  // Run again after a resume: told already.
    dependencies_.table.Save(record_);
  } else {
    record_.epochs_reported = metrics.epoch() + 1;
    record_.restarts_without_epoch = 0;
    v1::JobEvent event;
    *event.mutable_epoch() = metrics;
    dependencies_.table.AddEvent(record_, std::move(event));
  }
}

void ActiveJob::OnEval(v1::EvalReport report) {
  Running();
  const absl::Status written = artifacts_.WriteEval(report);
  if (!written.ok()) Tried(written);
  WarnIfError(tensorboard_.WriteEval(report));
  PutPictures(OneFile(tensorboard_.EvalFile(report)));
  PutPictures(artifacts_.TakePictures(&report));
  dependencies_.metrics->Evaluated(report);
  if (job_.best().has_value()) KeepBest(&report);
  if (report.epoch() <= record_.eval_reported) return dependencies_.table.Save(record_);
  record_.eval_reported = report.epoch();
  v1::JobEvent event;
  v1::EvalEvent& eval = *event.mutable_eval();
  eval.set_epoch(report.epoch());
  eval.set_num_images(report.num_images());
  eval.set_reward_mean(report.reward_mean());
  *eval.mutable_parts_mean() = report.parts_mean();
  eval.set_reward_stderr(report.reward_stderr());
  *eval.mutable_parts_stderr() = report.parts_stderr();
  dependencies_.table.AddEvent(record_, std::move(event));
}

void ActiveJob::KeepBest(v1::EvalReport* report) {
  const std::optional<CheckpointStore::Best> so_far =
      unsaved_best_.has_value() ? unsaved_best_->best : best_;
  if (!CheckpointStore::IsBetter(report->best_value(), so_far, job_.best()->mode)) return;
  unsaved_best_ = {{.epoch = report->epoch(), .value = report->best_value()},
                   std::move(*report->mutable_best_lora())};
  if (const absl::Status status = SaveBest(); !status.ok()) Tried(status);
}

absl::Status ActiveJob::SaveBest() {
  const absl::StatusOr<std::string> file =
      checkpoints_.SaveBest(unsaved_best_->best, unsaved_best_->lora);
  if (!file.ok()) return file.status();
  best_ = unsaved_best_->best;
  unsaved_best_.reset();
  ShowBest();
  return absl::OkStatus();
}

void ActiveJob::ShowBest() {
  v1::Job& job = record_.job;
  job.set_best_lora_path(best_.has_value() ? checkpoints_.BestLoraFile(best_->epoch) : "");
  job.set_best_epoch(best_.has_value() ? best_->epoch : 0);
  job.set_best_value(best_.has_value() ? best_->value : 0);
}

void ActiveJob::OnCheckpoint(v1::Checkpoint checkpoint) {
  Running();
  if (IsDue(checkpoint) && Write(checkpoint)) {
    kept_.reset();
  } else if (!absl::IsInvalidArgument(result_)) {  // Such a one is written at no time.
    kept_ = std::move(checkpoint);
  }
}

bool ActiveJob::IsDue(const v1::Checkpoint& checkpoint) const {
  if (!checkpoint.spare() || wants_checkpoint_ || write_backoff_.failing()) return true;
  const double every_s = kSecondsPerMinute * job_.spec().checkpoint().every_minutes();
  return every_s > 0 && dependencies_.clock.NowSeconds() - last_write_s_ >= every_s;
}

bool ActiveJob::AwaitsCheckpoint() const {
  const v1::JobState state = record_.job.state();
  return wants_checkpoint_ && !stopping() && waiting_.empty() &&
         (state == v1::RUNNING || state == v1::PAUSING);
}

void ActiveJob::WriteKept() {
  if (kept_.has_value()) {
    if (Write(*kept_)) kept_.reset();
  } else if (!artifacts_.AllWritten()) {
    Tried(artifacts_.SyncRows());
  } else if (unsaved_best_.has_value()) {
    Tried(SaveBest());
    dependencies_.table.Save(record_);
  }
}

bool ActiveJob::AllWritten() const {
  return !kept_.has_value() && artifacts_.AllWritten() && !unsaved_best_.has_value();
}

bool ActiveJob::TooEarly() const { return !write_backoff_.IsDue(dependencies_.clock.NowSeconds()); }

bool ActiveJob::Write(const v1::Checkpoint& checkpoint) {
  const double start_s = dependencies_.clock.NowSeconds();
  WarnIfError(tensorboard_.Sync());
  // A checkpoint relies on the rows of its epochs.
  const absl::Status rows = artifacts_.SyncRows();
  const absl::StatusOr<std::string> path =
      rows.ok() ? checkpoints_.Save(checkpoint) : absl::StatusOr<std::string>(rows);
  result_ = path.status();
  Tried(result_);
  if (!path.ok()) return false;
  wants_checkpoint_ = false;
  written_epoch_ = std::max(written_epoch_, checkpoint.epoch());
  last_write_s_ = dependencies_.clock.NowSeconds();
  dependencies_.service_metrics.CheckpointWritten(last_write_s_ - start_s);
  dependencies_.metrics->CheckpointWritten(
      checkpoint.epoch(),
      static_cast<int64_t>(checkpoint.lora().size() + checkpoint.optimizer().size() +
                           checkpoint.state().size() + checkpoint.ema_lora().size()),
      dependencies_.clock.UnixSeconds());
  record_.job.set_lora_path(CheckpointStore::LoraFileIn(*path));
  if (checkpoint.epoch() > record_.checkpoint_reported) {
    record_.checkpoint_reported = checkpoint.epoch();
    v1::JobEvent event;
    event.mutable_checkpoint()->set_epoch(checkpoint.epoch());
    event.mutable_checkpoint()->set_path(*path);
    dependencies_.table.AddEvent(record_, std::move(event));
  } else {
    dependencies_.table.Save(record_);
  }
  WarnIfError(checkpoints_.Prune(job_.spec().checkpoint().keep()));
  return true;
}

absl::Status ActiveJob::CheckResult() const {
  if (!result_.ok()) {
    return Annotate(result_, "the job ran to its end, but its result is not on disk");
  }
  if (written_epoch_ >= job_.spec().num_epochs()) return absl::OkStatus();
  return WithFault(absl::InternalError(absl::StrCat(
                       "all ranks ended well, but the state after epoch ", job_.spec().num_epochs(),
                       " has not arrived; the newest is that of epoch ", written_epoch_)),
                   {.whose = Whose::kService, .passes = true});
}

}  // namespace imageddpo
