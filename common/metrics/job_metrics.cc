#include "common/metrics/job_metrics.h"

#include <utility>

#include "common/metrics/names.h"

namespace imageddpo {
namespace {

prometheus::Labels JobLabels(const std::string& job_id, const std::string& job_name) {
  return {{"job_id", job_id}, {"job_name", job_name}};
}

}  // namespace

JobMetrics::JobMetrics(prometheus::Registry& registry, const std::string& job_id,
                       const std::string& job_name)
    : info_(registry, metric::kJobInfo, JobLabels(job_id, job_name), "topology"),
      epoch_(registry, metric::kJobEpoch, JobLabels(job_id, job_name)),
      num_epochs_(registry, metric::kJobNumEpochs, JobLabels(job_id, job_name)),
      samples_seen_(registry, metric::kJobSamplesSeen, JobLabels(job_id, job_name)),
      reward_mean_(registry, metric::kJobRewardMean, JobLabels(job_id, job_name)),
      reward_std_(registry, metric::kJobRewardStd, JobLabels(job_id, job_name)),
      loss_(registry, metric::kJobLoss, JobLabels(job_id, job_name)),
      approx_kl_(registry, metric::kJobApproxKl, JobLabels(job_id, job_name)),
      clip_fraction_(registry, metric::kJobClipFraction, JobLabels(job_id, job_name)),
      grad_norm_(registry, metric::kJobGradNorm, JobLabels(job_id, job_name)),
      ratio_error_(registry, metric::kJobRatioFirstStepMaxError, JobLabels(job_id, job_name)),
      sample_age_(registry, metric::kJobSampleAge, JobLabels(job_id, job_name)),
      behaviour_ratio_mean_(registry, metric::kJobBehaviourRatioMean, JobLabels(job_id, job_name)),
      behaviour_ratio_std_(registry, metric::kJobBehaviourRatioStd, JobLabels(job_id, job_name)),
      proximal_ratio_mean_(registry, metric::kJobProximalRatioMean, JobLabels(job_id, job_name)),
      proximal_ratio_std_(registry, metric::kJobProximalRatioStd, JobLabels(job_id, job_name)),
      loss_scale_(registry, metric::kJobLossScale, JobLabels(job_id, job_name)),
      skipped_updates_(registry, metric::kJobSkippedUpdates, JobLabels(job_id, job_name)),
      images_per_second_(registry, metric::kJobImagesPerSecond, JobLabels(job_id, job_name)),
      mfu_(registry, metric::kJobMfu, JobLabels(job_id, job_name)),
      epoch_seconds_(registry, metric::kJobEpochSeconds, JobLabels(job_id, job_name)),
      epoch_stage_seconds_(registry, metric::kJobEpochStageSeconds, JobLabels(job_id, job_name),
                           "stage"),
      eval_reward_(registry, metric::kJobEvalRewardMean, JobLabels(job_id, job_name)),
      eval_part_(registry, metric::kJobEvalPartMean, JobLabels(job_id, job_name), "part"),
      eval_epoch_(registry, metric::kJobEvalEpoch, JobLabels(job_id, job_name)),
      checkpoint_bytes_(registry, metric::kJobCheckpointBytes, JobLabels(job_id, job_name)),
      checkpoint_epoch_(registry, metric::kJobCheckpointEpoch, JobLabels(job_id, job_name)),
      samples_total_(registry, metric::kJobSamplesTotal, JobLabels(job_id, job_name)),
      epochs_total_(registry, metric::kJobEpochsTotal, JobLabels(job_id, job_name)),
      stage_seconds_(registry, metric::kJobStageSecondsTotal, JobLabels(job_id, job_name), "stage"),
      checkpoints_total_(registry, metric::kJobCheckpointsTotal, JobLabels(job_id, job_name)),
      resumes_total_(registry, metric::kJobResumesTotal, JobLabels(job_id, job_name)),
      warnings_total_(registry, metric::kJobWarningsTotal, JobLabels(job_id, job_name)) {}

void JobMetrics::Started(const std::string& topology, int64_t num_epochs) {
  info_.Clear();  // A gang may be formed again in another shape.
  info_.At(topology).Set(1);
  num_epochs_.At().Set(static_cast<double>(num_epochs));
  // From here on "none so far" is a fact, and rates need a first point.
  for (CounterSeries* counter :
       {&samples_total_, &epochs_total_, &checkpoints_total_, &resumes_total_, &warnings_total_}) {
    counter->At();
  }
}

void JobMetrics::EpochFinished(const v1::EpochReport& report, int64_t samples) {
  epoch_.At().Set(static_cast<double>(report.epoch() + 1));
  samples_seen_.At().Set(static_cast<double>(report.samples_seen()));
  reward_mean_.At().Set(report.reward_mean());
  reward_std_.At().Set(report.reward_std());
  loss_.At().Set(report.loss());
  approx_kl_.At().Set(report.approx_kl());
  clip_fraction_.At().Set(report.clipfrac());
  grad_norm_.At().Set(report.grad_norm());
  ratio_error_.At().Set(report.ratio_first_step_max_error());
  if (report.has_staleness()) {
    const v1::Staleness& staleness = report.staleness();
    sample_age_.At().Set(static_cast<double>(staleness.sample_age()));
    behaviour_ratio_mean_.At().Set(staleness.behaviour_ratio_mean());
    behaviour_ratio_std_.At().Set(staleness.behaviour_ratio_std());
    proximal_ratio_mean_.At().Set(staleness.proximal_ratio_mean());
    proximal_ratio_std_.At().Set(staleness.proximal_ratio_std());
  }
  if (report.has_loss_scaling()) {
    loss_scale_.At().Set(report.loss_scaling().scale());
    skipped_updates_.At().Set(static_cast<double>(report.loss_scaling().skipped_updates()));
  }
  mfu_.At().Set(report.mfu());
  epoch_seconds_.At().Set(report.epoch_seconds());
  if (report.epoch_seconds() > 0) {
    images_per_second_.At().Set(static_cast<double>(samples) / report.epoch_seconds());
  }
  samples_total_.At().Increment(static_cast<double>(samples));
  epochs_total_.At().Increment();
  for (const auto& [stage, seconds] : report.stage_seconds()) {
    epoch_stage_seconds_.At(stage).Set(seconds);
    if (seconds > 0) stage_seconds_.At(stage).Increment(seconds);
  }
}

void JobMetrics::Evaluated(const v1::EvalReport& report) {
  eval_reward_.At().Set(report.reward_mean());
  eval_epoch_.At().Set(static_cast<double>(report.epoch()));
  for (const auto& [part, mean] : report.parts_mean()) eval_part_.At(part).Set(mean);
}

void JobMetrics::CheckpointWritten(int64_t epoch, int64_t size_bytes) {
  checkpoints_total_.At().Increment();
  checkpoint_epoch_.At().Set(static_cast<double>(epoch));
  checkpoint_bytes_.At().Set(static_cast<double>(size_bytes));
}

void JobMetrics::Resumed() { resumes_total_.At().Increment(); }

void JobMetrics::Warned() { warnings_total_.At().Increment(); }

JobMetricsTable::JobMetricsTable(prometheus::Registry& registry)
    : JobMetricsTable(registry, Options()) {}

JobMetricsTable::JobMetricsTable(prometheus::Registry& registry, Options options)
    : registry_(registry), options_(options) {}

std::shared_ptr<JobMetrics> JobMetricsTable::Get(const std::string& job_id,
                                                 const std::string& job_name) {
  absl::MutexLock lock(&mutex_);
  Entry& entry = entries_[job_id];
  if (entry.metrics == nullptr) {
    entry.metrics = std::make_shared<JobMetrics>(registry_, job_id, job_name);
  }
  entry.ended_at.reset();
  return entry.metrics;
}

void JobMetricsTable::Ended(const std::string& job_id, TimePoint now) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(job_id);
  if (it != entries_.end() && !it->second.ended_at) it->second.ended_at = now;
}

void JobMetricsTable::Sweep(TimePoint now) {
  absl::MutexLock lock(&mutex_);
  std::multimap<TimePoint, std::string> ended;  // Oldest first.
  for (const auto& [job_id, entry] : entries_) {
    // While someone still holds a reporter its series must stay: a second one for the same job
    // would share them, and lose them when the first goes.
    if (entry.ended_at && entry.metrics.use_count() == 1) ended.emplace(*entry.ended_at, job_id);
  }
  size_t left = ended.size();
  for (const auto& [ended_at, job_id] : ended) {
    if (now - ended_at < options_.keep_ended && left <= options_.max_ended) break;
    entries_.erase(job_id);
    --left;
  }
}

size_t JobMetricsTable::size() const {
  absl::MutexLock lock(&mutex_);
  return entries_.size();
}

}  // namespace imageddpo
