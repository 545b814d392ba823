#pragma once

#include <array>
#include <string_view>

// Metrics that the service exports: name, kind, labels and help; those of an epoch's numbers stand
// in epoch_metrics.cc. Names start with imageddpo_ and end in their unit (_seconds, _bytes) or, for
// counters, in _total; what has no such ending is a plain number. docs/metrics.md explains each of
// them and is tested against AllMetrics().
//
// The label of a job is `job_id`, not `job`: Prometheus sets `job` itself on everything it scrapes.
namespace imageddpo::metric {

enum class Kind { kGauge, kCounter, kHistogram };

struct Info {
  std::string_view name;
  Kind kind;
  std::string_view labels;  ///< Comma-separated, in the order of docs/metrics.md; may be empty.
  std::string_view help;
};

// --- One job. Series of a job appear with their first value and go some time after its end. ---

inline constexpr Info kJobInfo{"imageddpo_job_info", Kind::kGauge, "job_id,job_name,topology",
                               "Always 1; says how the job runs."};
inline constexpr Info kJobEpoch{"imageddpo_job_epoch", Kind::kGauge, "job_id,job_name",
                                "Epochs finished, counted from the job's first."};
inline constexpr Info kJobNumEpochs{"imageddpo_job_num_epochs", Kind::kGauge, "job_id,job_name",
                                    "Epochs that the job asked for."};
inline constexpr Info kJobSamplesTotal{"imageddpo_job_samples_total", Kind::kCounter,
                                       "job_id,job_name",
                                       "Samples drawn and trained on since this process started."};
inline constexpr Info kJobEpochsTotal{"imageddpo_job_epochs_total", Kind::kCounter,
                                      "job_id,job_name",
                                      "Epochs finished since this process started."};
inline constexpr Info kJobStageSecondsTotal{
    "imageddpo_job_stage_seconds_total", Kind::kCounter, "job_id,job_name,stage",
    "Seconds spent in each stage since this process started."};
inline constexpr Info kJobEvalRewardMean{"imageddpo_job_eval_reward_mean", Kind::kGauge,
                                         "job_id,job_name",
                                         "Mean reward of the newest evaluation."};
inline constexpr Info kJobEvalPartMean{
    "imageddpo_job_eval_part_mean", Kind::kGauge, "job_id,job_name,part",
    "Mean of one part of the reward over the newest evaluation."};
inline constexpr Info kJobEvalRewardStderr{"imageddpo_job_eval_reward_stderr", Kind::kGauge,
                                           "job_id,job_name", "Standard error of that mean."};
inline constexpr Info kJobEvalPartStderr{"imageddpo_job_eval_part_stderr", Kind::kGauge,
                                         "job_id,job_name,part", "Standard error of that mean."};
inline constexpr Info kJobEvalEpoch{"imageddpo_job_eval_epoch", Kind::kGauge, "job_id,job_name",
                                    "Epochs trained when the newest evaluation was made."};
inline constexpr Info kJobCheckpointsTotal{"imageddpo_job_checkpoints_total", Kind::kCounter,
                                           "job_id,job_name",
                                           "Checkpoints written since this process started."};
inline constexpr Info kJobCheckpointBytes{"imageddpo_job_checkpoint_bytes", Kind::kGauge,
                                          "job_id,job_name", "Size of the newest checkpoint."};
inline constexpr Info kJobCheckpointEpoch{"imageddpo_job_checkpoint_epoch", Kind::kGauge,
                                          "job_id,job_name",
                                          "Epochs trained when the newest checkpoint was made."};
inline constexpr Info kJobResumesTotal{
    "imageddpo_job_resumes_total", Kind::kCounter, "job_id,job_name",
    "Times the job went on after a death, since this process started."};
inline constexpr Info kJobWarningsTotal{"imageddpo_job_warnings_total", Kind::kCounter,
                                        "job_id,job_name",
                                        "Warnings on the job since this process started."};

inline constexpr Info kJobGuardFiringsTotal{
    "imageddpo_job_guard_firings_total", Kind::kCounter, "job_id,job_name,guard",
    "Times a guard on learning saw what it looks for, since this process started."};

inline constexpr Info kJobWaiting{
    "imageddpo_job_waiting", Kind::kGauge, "job_id,job_name",
    "1 while the job waits for something outside of the service, as a reward service; else 0."};
inline constexpr Info kJobRunning{"imageddpo_job_running", Kind::kGauge, "job_id,job_name",
                                  "1 while ranks work for the job, else 0."};
inline constexpr Info kJobCheckpointTimeSeconds{
    "imageddpo_job_checkpoint_time_seconds", Kind::kGauge, "job_id,job_name",
    "When the newest checkpoint was written, or else the ranks began, seconds since 1970."};
inline constexpr Info kJobEpochTimeSeconds{
    "imageddpo_job_epoch_time_seconds", Kind::kGauge, "job_id,job_name",
    "When the newest epoch was finished, or else the ranks began, seconds since 1970."};
inline constexpr Info kJobRewardErrorsTotal{
    "imageddpo_job_reward_errors_total", Kind::kCounter, "job_id,job_name",
    "Calls of reward services that failed, since this process started."};

// --- The service ---

inline constexpr Info kJobs{"imageddpo_jobs", Kind::kGauge, "state",
                            "Jobs in the store by state; every state is always present."};
inline constexpr Info kJobTransitionsTotal{"imageddpo_job_transitions_total", Kind::kCounter,
                                           "state",
                                           "Changes of a job's state, by the state entered."};
inline constexpr Info kQueueDepth{"imageddpo_queue_depth", Kind::kGauge, "",
                                  "Jobs that wait for free ranks."};
inline constexpr Info kWorkers{"imageddpo_workers", Kind::kGauge, "state",
                               "Worker ranks by state: idle, busy, dead."};
inline constexpr Info kWorkerHeartbeatAgeSeconds{"imageddpo_worker_heartbeat_age_seconds",
                                                 Kind::kGauge, "rank",
                                                 "Time since the worker was last heard."};
inline constexpr Info kWorkerSlowTotal{
    "imageddpo_worker_slow_total", Kind::kCounter, "rank",
    "Times the worker was silent for more than half of pool.heartbeat_timeout_seconds."};
inline constexpr Info kWorkerDeathsTotal{"imageddpo_worker_deaths_total", Kind::kCounter, "",
                                         "Workers that were lost since this process started."};
inline constexpr Info kRankResidentBytes{"imageddpo_rank_resident_bytes", Kind::kGauge, "rank",
                                         "Memory of the rank's process on its host."};
inline constexpr Info kRankDeviceAllocatedBytes{"imageddpo_rank_device_allocated_bytes",
                                                Kind::kGauge, "rank",
                                                "Memory of the rank's GPU that tensors use."};
inline constexpr Info kRankDeviceReservedBytes{
    "imageddpo_rank_device_reserved_bytes", Kind::kGauge, "rank",
    "Memory of the rank's GPU that its process holds, used or not."};
inline constexpr Info kRankGpuPowerWatts{"imageddpo_rank_gpu_power_watts", Kind::kGauge, "rank",
                                         "Power that the rank's GPU takes."};
inline constexpr Info kRankGpuBusyRatio{
    "imageddpo_rank_gpu_busy_ratio", Kind::kGauge, "rank",
    "Share of the last moments in which the rank's GPU ran a kernel, whoever started it."};
inline constexpr Info kRankGpuUsedBytes{"imageddpo_rank_gpu_used_bytes", Kind::kGauge, "rank",
                                        "Memory of the rank's GPU that all processes use."};
inline constexpr Info kRankSentBytesTotal{
    "imageddpo_rank_sent_bytes_total", Kind::kCounter, "rank,transport",
    "What the rank has passed to the transport for other ranks of its gangs."};
inline constexpr Info kQueueWaitSeconds{"imageddpo_queue_wait_seconds", Kind::kHistogram, "",
                                        "Time between a job's entry into the queue and its ranks."};
inline constexpr Info kStageSeconds{
    "imageddpo_stage_seconds", Kind::kHistogram, "stage",
    "Seconds of each stage of an epoch, over all jobs; see imageddpo_job_epoch_stage_seconds."};
inline constexpr Info kCheckpointWriteSeconds{"imageddpo_checkpoint_write_seconds",
                                              Kind::kHistogram, "",
                                              "Time to write a checkpoint to the disk."};
inline constexpr Info kRewardCallSeconds{"imageddpo_reward_call_seconds", Kind::kHistogram,
                                         "outcome",
                                         "Duration of calls of reward services: ok, error."};
inline constexpr Info kStoreWriteSeconds{"imageddpo_store_write_seconds", Kind::kHistogram, "",
                                         "Time to store a change of a job."};
inline constexpr Info kTickSeconds{
    "imageddpo_tick_seconds", Kind::kHistogram, "",
    "Time of a round of the controller's thread, which handles all reports that have arrived."};
inline constexpr Info kDataDirFreeBytes{"imageddpo_data_dir_free_bytes", Kind::kGauge, "",
                                        "Space that is free for the service where data_dir is."};
inline constexpr Info kCertificateExpiryTimeSeconds{
    "imageddpo_certificate_expiry_time_seconds", Kind::kGauge, "",
    "When the API's certificate expires, seconds since 1970; only with TLS."};
inline constexpr Info kRetentionRemovedBytesTotal{
    "imageddpo_retention_removed_bytes_total", Kind::kCounter, "",
    "Bytes of ended jobs' files that `retention` has removed since this process started."};
inline constexpr Info kRpcsTotal{"imageddpo_rpcs_total", Kind::kCounter, "method,code",
                                 "Finished calls of the API by method and status code."};
inline constexpr Info kRpcDurationSeconds{
    "imageddpo_rpc_duration_seconds", Kind::kHistogram, "method,code",
    "Duration of calls of the API; WatchJob counts its whole stream."};
inline constexpr Info kBuildInfo{"imageddpo_build_info", Kind::kGauge, "version,commit,device",
                                 "Always 1; says which build runs."};
inline constexpr Info kProcessStartTimeSeconds{"imageddpo_process_start_time_seconds", Kind::kGauge,
                                               "", "Start of the controller, seconds since 1970."};

/// AllMetrics() of epoch_metrics.h has those of an epoch's numbers too.
inline constexpr std::array kAll = {
    &kJobInfo,
    &kJobEpoch,
    &kJobNumEpochs,
    &kJobSamplesTotal,
    &kJobEpochsTotal,
    &kJobStageSecondsTotal,
    &kJobEvalRewardMean,
    &kJobEvalPartMean,
    &kJobEvalRewardStderr,
    &kJobEvalPartStderr,
    &kJobEvalEpoch,
    &kJobCheckpointsTotal,
    &kJobCheckpointBytes,
    &kJobCheckpointEpoch,
    &kJobResumesTotal,
    &kJobWarningsTotal,
    &kJobGuardFiringsTotal,
    &kJobWaiting,
    &kJobRunning,
    &kJobCheckpointTimeSeconds,
    &kJobEpochTimeSeconds,
    &kJobRewardErrorsTotal,
    &kJobs,
    &kJobTransitionsTotal,
    &kQueueDepth,
    &kWorkers,
    &kWorkerHeartbeatAgeSeconds,
    &kWorkerSlowTotal,
    &kWorkerDeathsTotal,
    &kRankResidentBytes,
    &kRankDeviceAllocatedBytes,
    &kRankDeviceReservedBytes,
    &kRankGpuPowerWatts,
    &kRankGpuBusyRatio,
    &kRankGpuUsedBytes,
    &kRankSentBytesTotal,
    &kQueueWaitSeconds,
    &kStageSeconds,
    &kCheckpointWriteSeconds,
    &kRewardCallSeconds,
    &kStoreWriteSeconds,
    &kTickSeconds,
    &kDataDirFreeBytes,
    &kCertificateExpiryTimeSeconds,
    &kRetentionRemovedBytesTotal,
    &kRpcsTotal,
    &kRpcDurationSeconds,
    &kBuildInfo,
    &kProcessStartTimeSeconds,
};

}  // namespace imageddpo::metric
