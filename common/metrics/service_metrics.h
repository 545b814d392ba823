#pragma once

#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/metrics/series.h"
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
  /// The rank is dead or gone; its heartbeat series goes.
  void RemoveWorker(int world_rank);

  /// Files of ended jobs were removed.
  void Removed(int64_t bytes);
  void SetFreeBytes(double bytes);

  /// A call of the API is finished. @param method  short name: "SubmitJob".
  void RpcFinished(const std::string& method, absl::StatusCode code, double duration_seconds);

 private:
  GaugeSeries jobs_, queue_depth_, workers_, heartbeat_age_, build_info_, start_time_, free_bytes_;
  CounterSeries transitions_, worker_slow_, removed_bytes_;
  prometheus::Family<prometheus::Counter>& rpcs_;
  prometheus::Family<prometheus::Histogram>& rpc_seconds_;
};

}  // namespace imageddpo
