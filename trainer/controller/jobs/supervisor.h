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
#include "common/config/resolved_job.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "common/model_config/model_count.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/jobs/active_job.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/pool/job_queue.h"

namespace imageddpo {

/// Decides what happens to jobs: admits them, gives them ranks, follows their gangs, and recovers
/// them after a rank was lost. Runs on the controller's thread only; no call waits for a worker.
/// Thread-compatible.
class Supervisor {
 public:
  struct Options {
    /// With fewer live workers than this, restart_reason() is set. 0: as many as were started.
    int min_ranks = 1;
    int max_restarts = 3;  ///< Restarts of one job without a new epoch in between; then it fails.
    /// A rank that has not stopped its job this long after it was told to is killed.
    double stop_timeout_seconds = 60;
    /// When workers are dead and no job has run or waited for this long, a restart of all ranks is
    /// requested to bring them back.
    double idle_seconds = 2;
    /// The same when none of the dead workers had a job: what killed them may do so again.
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

  /// Call it once, at start: loads the unfinished jobs and puts them back into the queue.
  absl::Status ResumeStored();

  struct NewJob {
    /// As AdmitJob() returned it. Not set: the request is known to be a repeated one.
    std::optional<ResolvedJob> job;
    std::string request_id;
    std::string request_sha256;
    std::optional<ModelCount> model = std::nullopt;  ///< Not set: the model could not be counted.
  };
  /// See TrainerService.SubmitJob.
  absl::StatusOr<v1::Job> Submit(NewJob job);
  /// See TrainerService.CancelJob.
  absl::StatusOr<v1::Job> Cancel(const std::string& id);

  void OnMessage(int world_rank, const v1::WorkerMessage& message);
  /// The worker counts as dead. If its process still exists, it is killed.
  void OnFailure(int world_rank, const std::string& reason);

  /// Starts the jobs that can start and checks deadlines. Call it after each other call, and at
  /// least once a second.
  void Tick();

  /// The service ends: stores every running job as one that continues at the next start.
  void Drain(const std::string& reason);

  /// Not empty: all ranks should be restarted, because the pool is too small or because a restart
  /// would bring dead workers back without disturbing a job.
  const std::string& restart_reason() const { return restart_reason_; }
  /// Whether, since the start, a job made progress, ended, or was charged with the death of a rank.
  /// A series of such restarts ends by itself: when the job ends or has used up its max_restarts.
  bool jobs_moved() const { return jobs_moved_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  void StartGang(const Scheduler::Gang& gang);
  /// A message of the rank could not be parsed: fails the rank's job; the rank goes on.
  void OnUnreadable(int world_rank, const v1::Unreadable& unreadable);
  void OnJobMessage(int world_rank, const v1::WorkerMessage& message);
  /// Marks a worker as dead and recovers its job. @return false: it was dead before.
  bool LoseWorker(int world_rank, const std::string& reason);
  /// Makes sure that the process of a worker that counts as dead is gone.
  void KillWorker(int world_rank);
  /// Treats ranks that have not stopped in time as dead.
  void LoseStuckRanks();
  /// Requests a restart of all ranks if workers are dead and it would disturb no job.
  void ConsiderRestart();
  void StopGang(ActiveJob& job, const std::string& reason);
  /// The job lost its ranks against our will: RECOVERING, or FAILED once max_restarts is used up.
  void Recover(JobRecord& record, const std::string& reason);
  /// No rank works for the job any more: sets the job's next state and frees its ranks.
  void FinishGang(const std::string& job_id);
  /// Puts the job into the queue, or fails it if this version cannot run it.
  void Enqueue(JobRecord& record);
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
  // Workers lost while a restart is pending. They are killed only after everything is stored,
  // because an MPI without fault tolerance then ends all processes.
  std::vector<int> to_kill_;
};

}  // namespace imageddpo
