#pragma once

#include <prometheus/registry.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics/epoch_metrics.h"
#include "common/metrics/series.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// The series of one job. A series appears with its first value, so that no curve starts at a
/// made-up zero; the destructor removes them all. Thread-safe.
class JobMetrics {
 public:
  /// @param registry  what HttpExporter serves; shared by all jobs.
  JobMetrics(prometheus::Registry& registry, const std::string& job_id,
             const std::string& job_name);

  JobMetrics(const JobMetrics&) = delete;
  JobMetrics& operator=(const JobMetrics&) = delete;

  /// The job's ranks start. @param topology  Topology::ToString(). @param unix_s  the time.
  void Started(const std::string& topology, int64_t num_epochs, double unix_s);
  /// An epoch is finished. @param samples  drawn in this epoch, over all ranks. @param unix_s  the
  /// time.
  void EpochFinished(const v1::EpochMetrics& metrics, int64_t samples, double unix_s);
  void Evaluated(const v1::EvalReport& report);
  /// A checkpoint is on disk. @param epoch  epochs trained. @param unix_s  the time.
  void CheckpointWritten(int64_t epoch, int64_t size_bytes, double unix_s);
  void Resumed();
  void Warned();
  /// A guard on learning has spoken. @param guard  as its setting.
  void GuardFired(const std::string& guard);
  /// Whether the job waits for something outside of the service.
  void Waiting(bool waits);
  /// Whether ranks work for the job.
  void Running(bool runs);
  /// A call of a reward service has failed.
  void RewardCallFailed();

 private:
  /// A field of v1.EpochMetrics that Prometheus shows.
  struct EpochSeries {
    const EpochMetric* metric;
    std::unique_ptr<GaugeSeries> series;
  };

  GaugeSeries info_, epoch_, num_epochs_, eval_reward_, eval_part_, eval_reward_stderr_,
      eval_part_stderr_, eval_epoch_, checkpoint_bytes_, checkpoint_epoch_, checkpoint_time_,
      epoch_time_, waiting_, running_;
  CounterSeries samples_total_, epochs_total_, stage_seconds_, checkpoints_total_, resumes_total_,
      warnings_total_, reward_errors_, guard_firings_;
  std::vector<EpochSeries> epoch_series_;
};

/// The JobMetrics of all jobs. Those of an ended job stay for a while, so that the last values are
/// scraped, and then go: the number of series is bounded whatever the number of jobs. Thread-safe.
class JobMetricsTable {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Options {
    std::chrono::seconds keep_ended{900};  ///< Longer than a scrape interval.
    size_t max_ended = 50;                 ///< Beyond these the longest ended go sooner.
  };

  /// @param registry  must outlive the table and what Get() returned.
  explicit JobMetricsTable(prometheus::Registry& registry);
  JobMetricsTable(prometheus::Registry& registry, Options options);

  /// The job's reporter, made on the first call. A job that ended and runs again counts as running.
  std::shared_ptr<JobMetrics> Get(const std::string& job_id, const std::string& job_name);
  /// The job has changed its state. Only for a job that has a reporter.
  void SetRunning(const std::string& job_id, bool runs);
  /// The job is in a final state, or paused.
  void Ended(const std::string& job_id, TimePoint now);
  /// Drops what ended long enough ago and is held by nobody else; call it every few seconds.
  void Sweep(TimePoint now);
  size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<JobMetrics> metrics;
    std::optional<TimePoint> ended_at;
  };

  prometheus::Registry& registry_;
  const Options options_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo
