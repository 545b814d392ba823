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

prometheus::Histogram::BucketBoundaries DiskSecondsBuckets() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60};
}

// From a stage of a small model to one of a large job; a queue may last for days.
prometheus::Histogram::BucketBoundaries LongSecondsBuckets() {
  return {0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400};
}

prometheus::Family<prometheus::Histogram>& HistogramOf(prometheus::Registry& registry,
                                                       const metric::Info& info) {
  return prometheus::BuildHistogram()
      .Name(std::string(info.name))
      .Help(std::string(info.help))
      .Register(registry);
}

// A process counts from its start, and so does the series: the rank's process never comes back.
void Raise(double total, prometheus::Counter* counter) {
  if (total > counter->Value()) counter->Increment(total - counter->Value());
}

constexpr char kOk[] = "ok", kError[] = "error";

}  // namespace

ServiceMetrics::ServiceMetrics(prometheus::Registry& registry, const Build& build,
                               std::chrono::system_clock::time_point process_start)
    : jobs_(registry, metric::kJobs, {}, "state"),
      queue_depth_(registry, metric::kQueueDepth, {}),
      workers_(registry, metric::kWorkers, {}, "state"),
      heartbeat_age_(registry, metric::kWorkerHeartbeatAgeSeconds, {}, "rank"),
      resident_(registry, metric::kRankResidentBytes, {}, "rank"),
      device_allocated_(registry, metric::kRankDeviceAllocatedBytes, {}, "rank"),
      device_reserved_(registry, metric::kRankDeviceReservedBytes, {}, "rank"),
      gpu_power_(registry, metric::kRankGpuPowerWatts, {}, "rank"),
      gpu_busy_(registry, metric::kRankGpuBusyRatio, {}, "rank"),
      gpu_used_(registry, metric::kRankGpuUsedBytes, {}, "rank"),
      data_dir_free_(registry, metric::kDataDirFreeBytes, {}),
      certificate_expiry_(registry, metric::kCertificateExpiryTimeSeconds, {}),
      build_info_(registry, metric::kBuildInfo,
                  {{"version", build.version}, {"commit", build.commit}, {"device", build.device}}),
      start_time_(registry, metric::kProcessStartTimeSeconds, {}),
      transitions_(registry, metric::kJobTransitionsTotal, {}, "state"),
      worker_slow_(registry, metric::kWorkerSlowTotal, {}, "rank"),
      deaths_(registry, metric::kWorkerDeathsTotal, {}),
      sent_messages_(registry, metric::kRankSentBytesTotal, {{"transport", "messages"}}, "rank"),
      sent_nccl_(registry, metric::kRankSentBytesTotal, {{"transport", "NCCL"}}, "rank"),
      removed_bytes_(registry, metric::kRetentionRemovedBytesTotal, {}),
      queue_wait_(HistogramOf(registry, metric::kQueueWaitSeconds).Add({}, LongSecondsBuckets())),
      checkpoint_write_(
          HistogramOf(registry, metric::kCheckpointWriteSeconds).Add({}, DiskSecondsBuckets())),
      store_write_(HistogramOf(registry, metric::kStoreWriteSeconds).Add({}, DiskSecondsBuckets())),
      tick_(HistogramOf(registry, metric::kTickSeconds).Add({}, DiskSecondsBuckets())),
      stages_(HistogramOf(registry, metric::kStageSeconds)),
      reward_calls_(HistogramOf(registry, metric::kRewardCallSeconds)),
      rpcs_(prometheus::BuildCounter()
                .Name(std::string(metric::kRpcsTotal.name))
                .Help(std::string(metric::kRpcsTotal.help))
                .Register(registry)),
      rpc_seconds_(HistogramOf(registry, metric::kRpcDurationSeconds)) {
  build_info_.At().Set(1);
  start_time_.At().Set(std::chrono::duration<double>(process_start.time_since_epoch()).count());
  for (const v1::JobState state : AllStates()) transitions_.At(v1::JobState_Name(state));
  SetJobs({});
  deaths_.At();
  removed_bytes_.At();
  for (const char* outcome : {kOk, kError}) {
    reward_calls_.Add({{"outcome", outcome}}, LongSecondsBuckets());
  }
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

void ServiceMetrics::WorkerDied(int world_rank) {
  deaths_.At().Increment();
  const std::string rank = absl::StrCat(world_rank);
  for (GaugeSeries* series : {&heartbeat_age_, &resident_, &device_allocated_, &device_reserved_,
                              &gpu_power_, &gpu_busy_, &gpu_used_}) {
    series->Remove(rank);
  }
}

void ServiceMetrics::SetRank(int world_rank, const v1::RankStats& stats) {
  const std::string rank = absl::StrCat(world_rank);
  resident_.At(rank).Set(static_cast<double>(stats.resident_bytes()));
  if (stats.has_device_allocated_bytes()) {
    device_allocated_.At(rank).Set(static_cast<double>(stats.device_allocated_bytes()));
    device_reserved_.At(rank).Set(static_cast<double>(stats.device_reserved_bytes()));
    Raise(static_cast<double>(stats.sent_nccl_bytes()), &sent_nccl_.At(rank));
  }
  if (stats.has_gpu_power_watts()) gpu_power_.At(rank).Set(stats.gpu_power_watts());
  if (stats.has_gpu_busy_ratio()) gpu_busy_.At(rank).Set(stats.gpu_busy_ratio());
  if (stats.has_gpu_used_bytes()) {
    gpu_used_.At(rank).Set(static_cast<double>(stats.gpu_used_bytes()));
  }
  Raise(static_cast<double>(stats.sent_message_bytes()), &sent_messages_.At(rank));
}

void ServiceMetrics::QueueWaited(double seconds) { queue_wait_.Observe(seconds); }

void ServiceMetrics::EpochFinished(const google::protobuf::Map<std::string, double>& stages) {
  for (const auto& [stage, seconds] : stages) {
    stages_.Add({{"stage", stage}}, LongSecondsBuckets()).Observe(seconds);
  }
}

void ServiceMetrics::CheckpointWritten(double seconds) { checkpoint_write_.Observe(seconds); }

void ServiceMetrics::RewardCalled(bool ok, double seconds) {
  reward_calls_.Add({{"outcome", ok ? kOk : kError}}, LongSecondsBuckets()).Observe(seconds);
}

void ServiceMetrics::StoreWritten(double seconds) { store_write_.Observe(seconds); }

void ServiceMetrics::Ticked(double seconds) { tick_.Observe(seconds); }

void ServiceMetrics::SetDataDirFree(double bytes) { data_dir_free_.At().Set(bytes); }

void ServiceMetrics::SetCertificateExpiry(double unix_s) { certificate_expiry_.At().Set(unix_s); }
void ServiceMetrics::Removed(int64_t bytes) {
  removed_bytes_.At().Increment(static_cast<double>(bytes));
}

void ServiceMetrics::RpcFinished(const std::string& method, absl::StatusCode code,
                                 double duration_seconds) {
  const prometheus::Labels labels = {{"method", method}, {"code", absl::StatusCodeToString(code)}};
  rpcs_.Add(labels).Increment();  // Add() returns the series that is there already.
  rpc_seconds_.Add(labels, RpcSecondsBuckets()).Observe(duration_seconds);
}

}  // namespace imageddpo
