#include "common/metrics/job_metrics.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/metrics/names.h"

namespace imageddpo {
namespace {

prometheus::Labels JobLabels(const std::string& job_id, const std::string& job_name) {
  return {{"job_id", job_id}, {"job_name", job_name}};
}

/// The label beside those of every job; there is at most one.
std::string OwnLabel(const metric::Info& info) {
  constexpr std::string_view kOfEveryJob = "job_id,job_name";
  return std::string(info.labels.substr(std::min(info.labels.size(), kOfEveryJob.size() + 1)));
}

}  // namespace

JobMetrics::JobMetrics(prometheus::Registry& registry, const std::string& job_id,
                       const std::string& job_name)
    : info_(registry, metric::kJobInfo, JobLabels(job_id, job_name), "topology"),
      epoch_(registry, metric::kJobEpoch, JobLabels(job_id, job_name)),
      num_epochs_(registry, metric::kJobNumEpochs, JobLabels(job_id, job_name)),
      eval_reward_(registry, metric::kJobEvalRewardMean, JobLabels(job_id, job_name)),
      eval_part_(registry, metric::kJobEvalPartMean, JobLabels(job_id, job_name), "part"),
      eval_reward_stderr_(registry, metric::kJobEvalRewardStderr, JobLabels(job_id, job_name)),
      eval_part_stderr_(registry, metric::kJobEvalPartStderr, JobLabels(job_id, job_name), "part"),
      eval_epoch_(registry, metric::kJobEvalEpoch, JobLabels(job_id, job_name)),
      checkpoint_bytes_(registry, metric::kJobCheckpointBytes, JobLabels(job_id, job_name)),
      checkpoint_epoch_(registry, metric::kJobCheckpointEpoch, JobLabels(job_id, job_name)),
      checkpoint_time_(registry, metric::kJobCheckpointTimeSeconds, JobLabels(job_id, job_name)),
      epoch_time_(registry, metric::kJobEpochTimeSeconds, JobLabels(job_id, job_name)),
      waiting_(registry, metric::kJobWaiting, JobLabels(job_id, job_name)),
      running_(registry, metric::kJobRunning, JobLabels(job_id, job_name)),
      samples_total_(registry, metric::kJobSamplesTotal, JobLabels(job_id, job_name)),
      epochs_total_(registry, metric::kJobEpochsTotal, JobLabels(job_id, job_name)),
      stage_seconds_(registry, metric::kJobStageSecondsTotal, JobLabels(job_id, job_name), "stage"),
      checkpoints_total_(registry, metric::kJobCheckpointsTotal, JobLabels(job_id, job_name)),
      resumes_total_(registry, metric::kJobResumesTotal, JobLabels(job_id, job_name)),
      warnings_total_(registry, metric::kJobWarningsTotal, JobLabels(job_id, job_name)),
      reward_errors_(registry, metric::kJobRewardErrorsTotal, JobLabels(job_id, job_name)),
      guard_firings_(registry, metric::kJobGuardFiringsTotal, JobLabels(job_id, job_name),
                     "guard") {
  for (const EpochMetric& metric : EpochMetricTable()) {
    if (metric.info.name.empty()) continue;
    epoch_series_.push_back(
        {&metric, std::make_unique<GaugeSeries>(registry, metric.info, JobLabels(job_id, job_name),
                                                OwnLabel(metric.info))});
  }
}

void JobMetrics::Started(const std::string& topology, int64_t num_epochs, double unix_s) {
  info_.Clear();  // A gang may be formed again in another shape.
  info_.At(topology).Set(1);
  num_epochs_.At().Set(static_cast<double>(num_epochs));
  waiting_.At().Set(0);
  running_.At().Set(1);
  checkpoint_time_.At().Set(unix_s);
  epoch_time_.At().Set(unix_s);
  // From here on "none so far" is a fact, and rates need a first point.
  for (CounterSeries* counter : {&samples_total_, &epochs_total_, &checkpoints_total_,
                                 &resumes_total_, &warnings_total_, &reward_errors_}) {
    counter->At();
  }
}

void JobMetrics::EpochFinished(const v1::EpochMetrics& metrics, int64_t samples, double unix_s) {
  epoch_time_.At().Set(unix_s);
  epoch_.At().Set(static_cast<double>(metrics.epoch() + 1));
  for (const EpochSeries& shown : epoch_series_) {
    ForEachValue(metrics, *shown.metric, [&](const std::string& label, double value) {
      shown.series->At(label).Set(value);
    });
  }
  samples_total_.At().Increment(static_cast<double>(samples));
  epochs_total_.At().Increment();
  for (const auto& [stage, seconds] : metrics.stage_seconds()) {
    if (seconds > 0) stage_seconds_.At(stage).Increment(seconds);
  }
}

void JobMetrics::Evaluated(const v1::EvalReport& report) {
  eval_reward_.At().Set(report.reward_mean());
  eval_epoch_.At().Set(static_cast<double>(report.epoch()));
  for (const auto& [part, mean] : report.parts_mean()) eval_part_.At(part).Set(mean);
  eval_reward_stderr_.At().Set(report.reward_stderr());
  for (const auto& [part, error] : report.parts_stderr()) eval_part_stderr_.At(part).Set(error);
}

void JobMetrics::CheckpointWritten(int64_t epoch, int64_t size_bytes, double unix_s) {
  checkpoints_total_.At().Increment();
  checkpoint_epoch_.At().Set(static_cast<double>(epoch));
  checkpoint_bytes_.At().Set(static_cast<double>(size_bytes));
  checkpoint_time_.At().Set(unix_s);
}

void JobMetrics::Resumed() { resumes_total_.At().Increment(); }

void JobMetrics::Warned() { warnings_total_.At().Increment(); }

void JobMetrics::GuardFired(const std::string& guard) { guard_firings_.At(guard).Increment(); }

void JobMetrics::Waiting(bool waits) { waiting_.At().Set(waits ? 1 : 0); }

void JobMetrics::Running(bool runs) { running_.At().Set(runs ? 1 : 0); }

void JobMetrics::RewardCallFailed() { reward_errors_.At().Increment(); }

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

void JobMetricsTable::SetRunning(const std::string& job_id, bool runs) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(job_id);
  if (it != entries_.end()) it->second.metrics->Running(runs);
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
