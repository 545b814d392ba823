#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/blocking_queue.h"
#include "common/base/clock.h"
#include "common/comm/control_channel.h"
#include "common/config/cluster_config.h"
#include "common/io/file_system.h"
#include "common/metrics/http_exporter.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/files/disk_use.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/jobs/supervisor.h"
#include "trainer/controller/pool/silence_watch.h"
#include "trainer/controller/pool/worker_link.h"
#include "trainer/controller/reward_probe.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// The controller of the service. One thread, the one that calls Run(), owns all state of jobs and
/// workers (class Supervisor). Calls of the API come from other threads: they either read the job
/// store and the event hub, which have locks of their own, or put a command into the mailbox and
/// wait for its result.
class Controller final : public JobApi {
 public:
  struct Dependencies {
    ControllerChannel& channel;
    JobStore& store;
    EventHub& hub;
    FileSystem& file_system;
    const Clock& clock;
    ServiceMetrics& metrics;
    JobMetricsTable& job_metrics;
    std::shared_ptr<spdlog::logger> logger;
    RewardProbe::Ask ask_rewards = nullptr;  ///< Null: jobs that wait for rewards wait for users.
  };

  /// @param cluster  resolved. Dependencies must outlive the controller.
  Controller(const ClusterConfig& cluster, const Dependencies& dependencies);
  ~Controller() override;
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  enum class ExitReason {
    kStopped,  ///< Stop was requested. Jobs continue at the next start.
    kRestart,  ///< Workers were lost: restart all ranks (exit code 75).
    /// The same, but Supervisor::jobs_moved() since the start, so the launcher does not count this
    /// restart as a failure.
    kRestartAfterWork,
  };
  /// Works until `stop_requested` returns true (it is called several times a second) and the epochs
  /// under way have ended or pool.drain_seconds have passed, or until a restart is needed. When it
  /// returns, everything is stored and the workers were told to end.
  /// @return an error if the stored jobs cannot be read at the start, or a rank has refused to
  /// start.
  absl::StatusOr<ExitReason> Run(const std::function<bool()>& stop_requested);

  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request, const Caller& caller,
                                 absl::Duration timeout) override;
  absl::StatusOr<v1::Job> Branch(const v1::BranchJobRequest& request, const Caller& caller,
                                 absl::Duration timeout) override;
  absl::StatusOr<v1::Job> Do(Verb verb, absl::Duration timeout) override;
  absl::StatusOr<v1::Cluster> GetCluster(absl::Duration timeout) override;
  absl::StatusOr<v1::Cluster> Drain(const v1::DrainWorkerRequest& request,
                                    absl::Duration timeout) override;
  absl::StatusOr<v1::Job> Get(const std::string& id) const override;
  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request) const override;

  /// Not ok: the thread in Run() is stuck, or the job store cannot be written. May be called by any
  /// thread.
  Health GetHealth() const;

 private:
  /// How much of a call's time is left, whatever happens to the wall clock.
  class TimeLeft {
   public:
    TimeLeft(const Clock& clock, absl::Duration timeout)
        : clock_(clock), end_s_(clock.NowSeconds() + absl::ToDoubleSeconds(timeout)) {}
    absl::Duration Get() const { return absl::Seconds(end_s_ - clock_.NowSeconds()); }

   private:
    const Clock& clock_;
    double end_s_;
  };
  struct FromWorker {
    int world_rank;
    v1::WorkerMessage message;
  };
  struct WorkerLost {
    int world_rank;
    std::string reason;
  };
  using Command = std::function<void()>;
  using Mail = std::variant<FromWorker, WorkerLost, Command>;

  /// Runs a function on the controller's thread and returns its result. It may run after this has
  /// given up, so it must own what it uses. DEADLINE_EXCEEDED: no answer within `timeout`.
  template <typename Result>
  absl::StatusOr<Result> Ask(std::function<absl::StatusOr<Result>()> function,
                             absl::Duration timeout);
  v1::Cluster ShowCluster() const;  // On the controller's thread.
  void Handle(Mail mail);
  void Tick();
  absl::StatusOr<ExitReason> Loop(const std::function<bool()>& stop_requested);
  /// Run() is over: answers the commands that wait, and all later ones, with an error.
  void Close();
  /// Judges the settings of a new job and looks at what they name, on the caller's thread.
  absl::Status Admit(const v1::JobSpec& spec, const Caller& caller, const TimeLeft& left,
                     JobService::NewJob* job);
  /// RESOURCE_EXHAUSTED: the files of the owner's jobs take what `quotas.disk_bytes` allows.
  absl::Status CheckDiskQuota(const std::string& owner);
  /// Waits until all workers have sent Hello. UNAVAILABLE: some have not within `timeout`.
  absl::Status WaitForWorkers(absl::Duration timeout);
  /// Puts what is true now and not stored into a job that was read from the store.
  void ShowLive(v1::Job* job) const;

  const ClusterConfig cluster_;
  const Dependencies dependencies_;
  DiskUse disk_use_;
  BlockingQueue<Mail> mailbox_;
  // The controller's thread alone.
  JobTable table_;
  Supervisor supervisor_;
  SilenceWatch silence_watch_;
  double next_check_s_ = 0;
  double next_store_check_s_ = 0;

  std::atomic<double> last_tick_s_;
  mutable absl::Mutex mutex_;
  bool workers_reported_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;  // Run() is over: nobody takes commands.
  absl::Status store_status_ ABSL_GUARDED_BY(mutex_);
  // Last members: their threads use the mailbox.
  std::unique_ptr<RewardProbe> probe_;  // Null: there is nobody to ask.
  std::unique_ptr<WorkerLink> link_;
};

}  // namespace imageddpo
