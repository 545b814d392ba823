#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "common/model_config/model_count.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/jobs/active_job.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// Decides what happens to jobs: takes them in, gives them ranks, follows their gangs, brings them
/// back after a death. Everything runs on the controller's thread; nothing waits.
/// Thread-compatible.
class Supervisor {
 public:
  struct Options {
    int min_ranks = 1;     ///< Fewer live workers than this: restart_reason() is set. 0: all.
    int max_restarts = 3;  ///< Of a job without a new epoch in between.
    double stop_timeout_seconds =
        60;  ///< A rank that was told to stop and has not by then is stuck: it is killed.
    /// A pool with dead workers is made whole by a restart when no job has run or waited for so
    /// long.
    double idle_seconds = 2;
    /// The same where none of the dead had a job: what killed them may kill the next ones too.
    double idle_seconds_without_job = 600;
  };

  struct Dependencies {
    FileSystem& file_system;
    const Clock& clock;
    JobTable& table;
    EventHub& hub;
    ServiceMetrics& metrics;
    JobMetricsTable& job_metrics;
    std::shared_ptr<spdlog::logger> logger;
    std::function<void(int world_rank, v1::ControllerMessage)> send;
  };

  Supervisor(const Options& options, const Dependencies& dependencies,
             const std::vector<int>& worker_ranks);

  /// At start: loads the unfinished jobs and puts them where they go on.
  absl::Status ResumeStored();

  struct NewJob {
    v1::JobSpec spec;  ///< As AdmitJob gave it.
    std::string request_id;
    std::string request_sha256;
    std::optional<ModelCount> model = std::nullopt;  ///< Not where its folder could not be counted.
  };
  /// See TrainerService.SubmitJob.
  absl::StatusOr<v1::Job> Submit(NewJob job);
  /// See TrainerService.CancelJob.
  absl::StatusOr<v1::Job> Cancel(const std::string& id);

  void OnMessage(int world_rank, const v1::WorkerMessage& message);
  /// The worker counts as dead; a process of it that is left is killed.
  void OnFailure(int world_rank, const std::string& reason);

  /// Starts what can start and looks at deadlines. Call it after everything else, and every second.
  void Tick();

  /// The service ends: every job that runs is stored as one that goes on at the next start.
  void Drain(const std::string& reason);

  /// Not empty: the pool cannot go on without a restart of all ranks, or is better for it.
  const std::string& restart_reason() const { return restart_reason_; }
  /// A job got further, ended, or was charged with a death since the start. Then restarts come to
  /// an end: with the job, or with its max_restarts.
  bool jobs_moved() const { return jobs_moved_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  void StartGang(const Scheduler::Gang& gang);
  /// Costs the rank's job, not the rank.
  void OnUnreadable(int world_rank, const v1::Unreadable& unreadable);
  void OnJobMessage(int world_rank, const v1::WorkerMessage& message);
  /// @return false: it was lost before.
  bool LoseWorker(int world_rank, const std::string& reason);
  /// Sees to it that a worker which counts as dead is.
  void KillWorker(int world_rank);
  /// Ranks that do not stop are lost.
  void LoseStuckRanks();
  /// Asks for a restart that makes the pool whole again when that takes nothing from any job.
  void ConsiderRestart();
  void StopGang(ActiveJob& job, const std::string& reason);
  /// The job lost its ranks through no decision of ours: RECOVERING, or FAILED when that keeps
  /// happening.
  void Recover(JobRecord& record, const std::string& reason);
  /// No rank works for the job any more: says what became of it and frees its ranks.
  void FinishGang(const std::string& job_id);
  void Enqueue(const JobRecord& record);
  ActiveJob* FindActive(const std::string& job_id);
  void RequestRestart(const std::string& reason);
  void ExportMetrics();

  const Options options_;
  const Dependencies dependencies_;
  JobTable& table_;
  Scheduler scheduler_;
  std::map<std::string, std::unique_ptr<ActiveJob>> active_;  // By job id.
  std::string restart_reason_;
  bool draining_ = false;
  bool jobs_moved_ = false;
  double idle_since_s_ = 0;
  // Lost when a restart was due: killed once all is stored, since some MPIs end everything then.
  std::vector<int> to_kill_;
};

}  // namespace imageddpo
