#include "common/metrics/service_metrics.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/metrics/names.h"

namespace imageddpo {
namespace {

// Every state a job can be in, in the order of the enum.
std::vector<v1::JobState> AllStates() {
  std::vector<v1::JobState> states;
  for (int number = v1::JobState_MIN; number <= v1::JobState_MAX; ++number) {
    if (number != v1::JOB_STATE_UNSPECIFIED && v1::JobState_IsValid(number)) {
      states.push_back(static_cast<v1::JobState>(number));
    }
  }
  return states;
}

// From a lookup in the job store to a long submit; WatchJob's streams land in the last bucket.
prometheus::Histogram::BucketBoundaries RpcSecondsBuckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60};
}

}  // namespace

ServiceMetrics::ServiceMetrics(prometheus::Registry& registry, const Build& build,
                               std::chrono::system_clock::time_point process_start)
    : jobs_(registry, metric::kJobs, {}, "state"),
      queue_depth_(registry, metric::kQueueDepth, {}),
      workers_(registry, metric::kWorkers, {}, "state"),
      heartbeat_age_(registry, metric::kWorkerHeartbeatAgeSeconds, {}, "rank"),
      build_info_(registry, metric::kBuildInfo,
                  {{"version", build.version}, {"commit", build.commit}, {"device", build.device}}),
      start_time_(registry, metric::kProcessStartTimeSeconds, {}),
      free_bytes_(registry, metric::kDataDirFreeBytes, {}),
      transitions_(registry, metric::kJobTransitionsTotal, {}, "state"),
      worker_slow_(registry, metric::kWorkerSlowTotal, {}, "rank"),
      removed_bytes_(registry, metric::kRetentionRemovedBytesTotal, {}),
      rpcs_(prometheus::BuildCounter()
                .Name(std::string(metric::kRpcsTotal.name))
                .Help(std::string(metric::kRpcsTotal.help))
                .Register(registry)),
      rpc_seconds_(prometheus::BuildHistogram()
                       .Name(std::string(metric::kRpcDurationSeconds.name))
                       .Help(std::string(metric::kRpcDurationSeconds.help))
                       .Register(registry)) {
  build_info_.At().Set(1);
  start_time_.At().Set(std::chrono::duration<double>(process_start.time_since_epoch()).count());
  for (const v1::JobState state : AllStates()) transitions_.At(v1::JobState_Name(state));
  SetJobs({});
}

void ServiceMetrics::JobEntered(v1::JobState state) {
  transitions_.At(v1::JobState_Name(state)).Increment();
}

void ServiceMetrics::SetJobs(const std::map<v1::JobState, int64_t>& count_by_state) {
  const auto count = [&](v1::JobState state) {
    const auto it = count_by_state.find(state);
    return it == count_by_state.end() ? 0.0 : static_cast<double>(it->second);
  };
  for (const v1::JobState state : AllStates()) {
    jobs_.At(v1::JobState_Name(state)).Set(count(state));
  }
  queue_depth_.At().Set(count(v1::QUEUED));
}

void ServiceMetrics::SetWorkers(int idle, int busy, int dead) {
  workers_.At("idle").Set(idle);
  workers_.At("busy").Set(busy);
  workers_.At("dead").Set(dead);
}

void ServiceMetrics::SetHeartbeatAge(int world_rank, double age_seconds) {
  heartbeat_age_.At(absl::StrCat(world_rank)).Set(age_seconds);
}

void ServiceMetrics::WorkerSlow(int world_rank) {
  worker_slow_.At(absl::StrCat(world_rank)).Increment();
}

void ServiceMetrics::RemoveWorker(int world_rank) {
  heartbeat_age_.Remove(absl::StrCat(world_rank));
}

void ServiceMetrics::Removed(int64_t bytes) {
  removed_bytes_.At().Increment(static_cast<double>(bytes));
}

void ServiceMetrics::SetFreeBytes(double bytes) { free_bytes_.At().Set(bytes); }

void ServiceMetrics::RpcFinished(const std::string& method, absl::StatusCode code,
                                 double duration_seconds) {
  const prometheus::Labels labels = {{"method", method}, {"code", absl::StatusCodeToString(code)}};
  rpcs_.Add(labels).Increment();  // Add() returns the series that is there already.
  rpc_seconds_.Add(labels, RpcSecondsBuckets()).Observe(duration_seconds);
}

}  // namespace imageddpo
