#pragma once

#include <spdlog/logger.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/crash_watch.h"
#include "common/comm/communicator.h"
#include "common/comm/control_channel.h"
#include "common/comm/counted_communicator.h"
#include "common/device/identity.h"
#include "common/metrics/gpu_sensors.h"
#include "common/worker/exit_codes.h"
#include "common/worker/job_context.h"

namespace imageddpo {

/// The life of a worker rank: sends Hello and heartbeats, runs one job at a time on a thread of its
/// own, kills a rank of its host when the controller asks for it, and ends when it is told to or
/// when the controller is gone.
///
/// The lease: the controller sends a Lease about once a second. When none has come for
/// Options::lease_timeout, or the transport knows that rank 0 is dead, the rank ends, because
/// nobody would receive its results. Time during which this process itself was stopped does not
/// count.
///
/// A job that ends with anything but OK aborts its gang, so that the other members do not wait for
/// this rank. Exceptions of the job function become the status in JobEnded (see run_catching.h).
class Worker {
 public:
  struct Options {
    std::chrono::milliseconds heartbeat_interval{1'000};
    std::chrono::milliseconds lease_timeout{10'000};
    /// When this rank ends: how long its job may take to end. After that Run() returns anyway.
    std::chrono::milliseconds stop_timeout{20'000};
    /// How long the members of a gang wait for each other before a job starts.
    std::chrono::milliseconds gang_timeout{60'000};
  };

  /// Opens this rank's communicator of a job's gang without waiting for the other members; the
  /// worker then meets them (MeetGang). Called on the job's thread.
  using GangFactory =
      std::function<absl::StatusOr<std::unique_ptr<Communicator>>(const v1::GangLayout& gang)>;

  /// What a worker needs; the references must outlive it.
  struct Parts {
    WorkerChannel& channel;
    GangFactory open_gang;
    JobFunction run_job;
    at::Device device;
    const Clock& clock;
    std::shared_ptr<spdlog::logger> logger;
    int64_t device_memory_bytes = 0;      ///< Of a GPU; 0: not known, or there is none.
    DeviceIdentity identity;              ///< Of `device`.
    const CrashWatch* crashes = nullptr;  ///< If set, crashes are reported to the controller.
    const GpuSensors* sensors = nullptr;  ///< Of `device`; null: there are none.
  };

  Worker(Parts parts, const Options& options);
  ~Worker();  ///< After Run() has returned. Waits for a job that did not stop in time.

  /// Blocks until the rank ends. @return its exit code: 0 after Shutdown, kExitRestart after the
  /// controller was lost, or when its job hangs (StageDeadline), which nothing but the end of the
  /// process can end.
  int Run();

  /// After Run(): whether a job is still running, which only the end of the process will stop.
  bool job_abandoned() const;

 private:
  class Job;

  void SayHello();
  void SendHeartbeat();
  void TellOfCrash();
  /// Whether the job hangs. Then its stack is in the log, and the controller is told.
  /// @param seconds  since the last look.
  bool JobHangs(double seconds);
  void KillOther(const v1::KillProcess& message);
  void Handle(const v1::ControllerMessage& message);
  void StartJob(const v1::StartJob& start);
  void StopJob(const std::string& job_id, const std::string& reason);
  void ProfileJob(const v1::ProfileEpochs& profile);
  void ReapJob();
  /// Asks the job to stop and waits for it.
  void EndJob(const std::string& reason);

  Parts parts_;
  const Options options_;
  const std::shared_ptr<SentBytes> sent_ = std::make_shared<SentBytes>();  // By all jobs.
  std::unique_ptr<Job> job_;
  std::uint64_t lease_number_ = 0;
  bool shutdown_ = false;
  bool crash_told_ = false;
};

}  // namespace imageddpo
