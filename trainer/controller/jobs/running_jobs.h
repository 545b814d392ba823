#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/artifacts/checkpoint_store.h"
#include "trainer/controller/jobs/active_job.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/jobs/recovery.h"
#include "trainer/controller/pool/scheduler.h"
#include "trainer/controller/store/artifact_writer.h"

namespace imageddpo {

/// The jobs that ranks work for, each from its StartJob until the last rank has let go: passes the
/// ranks' reports to the jobs, stops gangs, and sets a job's next state when its gang has ended. No
/// call waits for a worker. Thread-compatible: used by the controller's thread.
class RunningJobs {
 public:
  struct Options {
    /// A rank that has not stopped its job this long after it was told to is stuck.
    double stop_timeout_seconds = 60;
  };

  struct Dependencies {
    FileSystem& file_system;
    const Clock& clock;
    JobTable& table;
    EventHub& hub;
    ServiceMetrics& metrics;
    JobMetricsTable& job_metrics;
    Scheduler& scheduler;  ///< Gets the ranks back when a gang has ended.
    Recovery& recovery;
    std::shared_ptr<spdlog::logger> logger;
    ArtifactWriter& writer;
    std::function<void(int world_rank, v1::ControllerMessage)> send;
  };

  RunningJobs(const Options& options, Dependencies dependencies);

  /// Prepares the job's files and sends StartJob to each rank. A job whose files cannot be prepared
  /// now goes back into the queue (Recovery::Postpone).
  void Start(const Scheduler::Gang& gang);
  /// Tells the ranks that still work for the job to stop. Does nothing if none does, or they were
  /// told already.
  void Stop(const std::string& job_id, const std::string& reason);

  /// Pauses the job at the end of the epoch under way, where it has one, so that another job gets
  /// its ranks; it then goes back into the queue by itself. Does nothing unless ranks work for it.
  void Preempt(const std::string& job_id, const std::string& by);
  /// What the queue may expect of the jobs that have ranks.
  GangForecasts Forecasts() const;

  /// Has the job write a checkpoint at the end of the epoch under way. A job that is PAUSING is
  /// then stopped, unless the epoch was its last one. Does nothing if no rank works for it.
  void WantCheckpoint(const std::string& job_id);
  /// Has the job's ranks trace their next epochs. Does nothing if no rank works for it.
  /// @return INVALID_ARGUMENT: the number is not from 1 to 100.
  absl::Status Profile(const std::string& job_id, int64_t num_epochs);
  /// Has the job leave its ranks at the end of the epoch under way, unless that is its last one; it
  /// then waits for other ranks, RECOVERING, and is not charged with a restart. An empty reason: it
  /// stays, if it has not left. Does nothing if no rank works for it.
  void MoveOff(const std::string& job_id, const std::string& reason);
  /// The same as WantCheckpoint() for all jobs, and what they have finished before is written at
  /// once.
  void WantCheckpoints();
  /// Whether a job is on its way to a checkpoint that it was asked for. Jobs that wait for
  /// something outside of the service are not.
  bool AwaitsCheckpoints() const;
  /// Writes what the jobs have finished, and no later epoch under way.
  void WriteFinishedEpochs();
  /// A job's checkpoints on disk. While ranks work for the job, only to read them.
  CheckpointStore CheckpointsOf(const std::string& job_id) const;
  FileSystem& file_system() const { return dependencies_.file_system; }
  /// Whether pictures or log lines of the job still wait to be written.
  bool WritesFiles(const std::string& job_id) const;

  /// Tries again to write what could not be written, and ends the jobs that only waited for that.
  /// Stops the jobs whose max_seconds are over. Call it regularly.
  void Tick();

  /// A rank reports on its job. Reports on a job for which the rank does not work are ignored.
  void OnReport(int world_rank, v1::WorkerMessage message);
  /// A message of the rank could not be parsed: fails the rank's job; the rank goes on.
  void OnUnreadable(int world_rank, const v1::Unreadable& unreadable);
  /// A rank of the job has died: the job recovers, unless a rank has reported an error of the job
  /// before, and the rest of its gang is stopped. Unknown jobs are ignored.
  void OnRankLost(int world_rank, const std::string& job_id, const std::string& what);

  struct StuckRank {
    int world_rank;
    std::string reason;
  };
  /// The ranks that have not stopped in time.
  std::vector<StuckRank> StuckRanks() const;

  bool empty() const { return jobs_.empty(); }
  bool Contains(const std::string& job_id) const { return jobs_.contains(job_id); }
  /// Whether a job finished an epoch or its gang ended since the start.
  bool moved() const { return moved_; }

 private:
  void StopGang(ActiveJob& job, const std::string& reason);
  void OnEnded(int world_rank, const v1::JobEnded& ended, ActiveJob& job);
  void StopIfOutOfTime(ActiveJob& job);
  /// The state after `epoch` epochs has come: stops the job if it waits for that to be paused or to
  /// leave its ranks, or has no time for another epoch.
  void StopAfter(int64_t epoch, ActiveJob& job);
  /// No rank works for the job any more: frees its ranks and sets the job's next state, unless what
  /// it has done is not on disk yet; Tick() calls again then.
  void FinishGang(const std::string& job_id);
  ActiveJob* Find(const std::string& job_id);

  const Options options_;
  const Dependencies dependencies_;
  JobTable& table_;
  std::map<std::string, std::unique_ptr<ActiveJob>> jobs_;  // By job id.
  bool moved_ = false;
};

}  // namespace imageddpo
