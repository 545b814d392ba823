#pragma once

#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/metrics/series.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// The series of the controller itself. Thread-safe.
class ServiceMetrics {
 public:
  struct Build {
    std::string version;
    std::string commit;
    std::string device;  ///< "cpu" or "cuda".
  };

  /// @param registry  must outlive the object.
  ServiceMetrics(prometheus::Registry& registry, const Build& build,
                 std::chrono::system_clock::time_point process_start);

  ServiceMetrics(const ServiceMetrics&) = delete;
  ServiceMetrics& operator=(const ServiceMetrics&) = delete;

  /// A job entered `state` (counted once a change is stored).
  void JobEntered(v1::JobState state);
  /// How many jobs the store holds in each state; states that are missing count 0. Sets the queue
  /// depth too.
  void SetJobs(const std::map<v1::JobState, int64_t>& count_by_state);

  void SetWorkers(int idle, int busy, int dead);
  void SetHeartbeatAge(int world_rank, double age_seconds);
  /// The worker is silent, but does not count as dead yet.
  void WorkerSlow(int world_rank);
  /// The rank is dead; its series go, except those of counters.
  void WorkerDied(int world_rank);

  /// What a rank says of its process, with each heartbeat.
  void SetRank(int world_rank, const v1::RankStats& stats);

  /// A job has been in the queue for so long when it got its ranks.
  void QueueWaited(double seconds);
  /// An epoch is finished. @param stages  v1.EpochMetrics.stage_seconds.
  void EpochFinished(const google::protobuf::Map<std::string, double>& stages);
  void CheckpointWritten(double seconds);
  /// A call of a reward service has ended.
  void RewardCalled(bool ok, double seconds);
  /// A change of a job was stored, or could not be.
  void StoreWritten(double seconds);
  void Ticked(double seconds);
  void SetDataDirFree(double bytes);
  void SetCertificateExpiry(double unix_s);

  /// Files of ended jobs were removed.
  void Removed(int64_t bytes);

  /// A call of the API is finished. @param method  short name: "SubmitJob".
  void RpcFinished(const std::string& method, absl::StatusCode code, double duration_seconds);

 private:
  using HistogramFamily = prometheus::Family<prometheus::Histogram>;

  GaugeSeries jobs_, queue_depth_, workers_, heartbeat_age_, resident_, device_allocated_,
      device_reserved_, gpu_power_, gpu_busy_, gpu_used_, data_dir_free_, certificate_expiry_,
      build_info_, start_time_;
  CounterSeries transitions_, worker_slow_, deaths_, sent_messages_, sent_nccl_, removed_bytes_;
  prometheus::Histogram &queue_wait_, &checkpoint_write_, &store_write_, &tick_;
  HistogramFamily &stages_, &reward_calls_;
  prometheus::Family<prometheus::Counter>& rpcs_;
  prometheus::Family<prometheus::Histogram>& rpc_seconds_;
};

}  // namespace imageddpo
