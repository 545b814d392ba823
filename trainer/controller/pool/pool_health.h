#pragma once

#include <spdlog/logger.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// Watches the pool: decides which workers count as dead, makes sure that their processes are gone,
/// and decides when all ranks have to be restarted to bring them back. What a death means for a job
/// is decided elsewhere (RunningJobs, Recovery). No call waits. Thread-compatible: used by the
/// controller's thread.
class PoolHealth {
 public:
  struct Options {
    /// With fewer live workers than this, restart_reason() is set. 0: as many as were started.
    int min_ranks = 1;
    /// When workers are dead and no job has run or waited for this long, a restart of all ranks is
    /// requested to bring them back.
    double idle_seconds = 2;
    /// The same when none of the dead workers had a job: what killed them may do so again.
    double idle_seconds_without_job = 600;
  };

  struct Dependencies {
    Scheduler& scheduler;  ///< Keeps the list of workers.
    const Clock& clock;
    ServiceMetrics& metrics;
    std::shared_ptr<spdlog::logger> logger;
    std::function<void(int world_rank, v1::ControllerMessage)> send;
    /// Told of each death, before a restart is considered. `job_id`: what the worker worked for;
    /// empty: nothing. `what` names rank, process, host and reason.
    std::function<void(int world_rank, const std::string& job_id, const std::string& what)> on_lost;
  };

  PoolHealth(const Options& options, Dependencies dependencies);

  /// The worker's process is ending by itself, for this reason. Ranks that are no workers, or dead
  /// already, are ignored.
  void Died(int world_rank, const std::string& reason);
  /// The worker is gone, silent or stuck: it counts as dead, and if its process still exists, it is
  /// killed, so that it cannot come back. While a restart is pending that waits for
  /// KillPostponed().
  void Lose(int world_rank, const std::string& reason);
  /// Kills the processes that Lose() has not killed yet. Call it when everything is stored: an MPI
  /// without fault tolerance then ends all processes.
  void KillPostponed();

  /// Requests a restart if workers are dead and it would disturb no job, and exports the pool's
  /// metrics. Call it at least once a second. @param jobs_run  ranks work for a job.
  void Look(bool jobs_run);

  /// Not empty: all ranks should be restarted, because the pool is too small or because a restart
  /// would bring dead workers back without disturbing a job.
  const std::string& restart_reason() const { return restart_reason_; }

 private:
  /// @return false: it is no worker or was dead before.
  bool MarkDead(int world_rank, const std::string& reason);
  /// Makes sure that the process of a worker that counts as dead is gone.
  void Kill(int world_rank);
  void ConsiderRestart(bool jobs_run);
  void RequestRestart(const std::string& reason);

  const Options options_;
  const Dependencies dependencies_;
  Scheduler& scheduler_;
  std::string restart_reason_;
  double idle_since_s_ = 0;
  std::vector<int> to_kill_;  // Lost while a restart is pending.
};

}  // namespace imageddpo
