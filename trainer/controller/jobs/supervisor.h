#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/jobs/job_service.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/jobs/outages.h"
#include "trainer/controller/jobs/recovery.h"
#include "trainer/controller/jobs/running_jobs.h"
#include "trainer/controller/pool/pool_health.h"
#include "trainer/controller/pool/scheduler.h"
#include "trainer/controller/store/artifact_writer.h"

namespace imageddpo {

/// Everything that the controller's thread decides: owns verbs (JobService), gangs (RunningJobs),
/// recovery (Recovery) and the pool (Scheduler, PoolHealth), and hands each message, death and tick
/// to the part that it concerns. No call waits for a worker. Thread-compatible.
class Supervisor {
 public:
  struct Options {
    PoolHealth::Options health;
    RunningJobs::Options running;
    Scheduler::Options queue;
    JobService::QueueLimits limits;
    int max_restarts = 3;      ///< See Recovery.
    double drain_seconds = 0;  ///< See MayStop().
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
    /// See Outages; the answer goes to OnRewardsAnswered().
    std::function<void(const std::string& job_id, const ResolvedJob& job)> ask_rewards = nullptr;
  };

  Supervisor(const Options& options, const Dependencies& dependencies,
             const std::vector<int>& worker_ranks);
  Supervisor(const Supervisor&) = delete;  // Its parts refer to each other.
  Supervisor& operator=(const Supervisor&) = delete;

  /// Call it once, at start: loads the unfinished jobs and puts them back into the queue.
  absl::Status ResumeStored();

  JobService& jobs() { return jobs_; }

  /// What TrainerService.GetCluster shows, but for health. @param ages_s  see ShowPool().
  v1::Cluster Cluster(const std::map<int, double>& ages_s) const;
  /// Takes workers out of the pool, or gives them back. A job that works on one leaves all its
  /// ranks at the end of the epoch under way. @return NOT_FOUND: there is no such rank or host;
  /// INVALID_ARGUMENT: none is named. Nothing was changed then. Another error: it is done, and not
  /// stored, so that it would not outlast a restart.
  absl::Status Drain(const v1::DrainWorkerRequest& request);

  void OnMessage(int world_rank, v1::WorkerMessage message);
  /// The worker counts as dead. If its process still exists, it is killed.
  void OnFailure(int world_rank, const std::string& reason) { health_.Lose(world_rank, reason); }

  /// Whether what the job waits for is there again, as was asked.
  void OnRewardsAnswered(const std::string& job_id, bool is_back);

  /// Starts the jobs that can start and checks deadlines. Call it after each other call, and at
  /// least once a second.
  void Tick();

  /// The service was asked to stop. The first call writes what every job has finished; from then on
  /// no job is started. Call it again after each Tick().
  /// @return whether there is nothing to wait for any more: the epochs that were under way when the
  ///         service was asked are trained and written, or drain_seconds are over.
  bool MayStop();

  /// The service ends: writes what every job has finished, and stores the running ones as jobs that
  /// continue at the next start.
  void Drain(const std::string& reason);

  /// Not empty: all ranks should be restarted; see PoolHealth.
  const std::string& restart_reason() const { return health_.restart_reason(); }
  /// Not empty: a rank cannot start, and would not if all were started again; the service ends.
  const std::string& refusal() const { return refusal_; }
  /// Whether, since the start, a job made progress, ended, or was charged with the death of a rank.
  /// Restarts for which this is true cannot repeat for ever: the job ends or uses up its
  /// max_restarts.
  bool jobs_moved() const { return running_.moved() || recovery_.charged(); }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  bool is_ending() const {
    return draining_ || stop_by_s_.has_value() || !restart_reason().empty();
  }

  /// Starts what can start, has jobs make room where cluster.yaml allows that, and says why the
  /// others wait.
  void RunQueue();
  /// Drains a worker that has reported if it, or its whole host, was drained in an earlier run.
  void RestoreDrain(int world_rank, const std::string& host);
  absl::Status StoreDrains();
  /// Stores what owners have taken of the pool, when gangs have changed and once a minute.
  void StoreUsage();

  const double drain_seconds_;
  const Clock& clock_;
  JobTable& table_;
  EventHub& hub_;
  const std::shared_ptr<spdlog::logger> logger_;
  Scheduler scheduler_;
  Recovery recovery_;
  ArtifactWriter writer_;
  RunningJobs running_;
  Outages outages_;
  PoolHealth health_;
  JobService jobs_;
  std::optional<double> stop_by_s_;  // Set once the service was asked to stop.
  bool draining_ = false;
  std::string refusal_;
  std::set<std::string> drains_;  // "2@gpu1": a rank; "*@gpu1": all ranks of the host.
  double next_usage_s_ = 0;
  uint64_t reasons_version_ = 0;  // Of the scheduler, when it last said why jobs wait.
  double next_reasons_s_ = 0;
};

}  // namespace imageddpo
