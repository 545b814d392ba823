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

inline constexpr Info kJobWaiting{
    "imageddpo_job_waiting", Kind::kGauge, "job_id,job_name",
    "1 while the job waits for something outside of the service, as a reward service; else 0."};

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
inline constexpr Info kRetentionRemovedBytesTotal{
    "imageddpo_retention_removed_bytes_total", Kind::kCounter, "",
    "Bytes of ended jobs' files that `retention` has removed since this process started."};
inline constexpr Info kDataDirFreeBytes{"imageddpo_data_dir_free_bytes", Kind::kGauge, "",
                                        "Bytes that the disk of data_dir has free."};
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
    &kJobWaiting,
    &kJobs,
    &kJobTransitionsTotal,
    &kQueueDepth,
    &kWorkers,
    &kWorkerHeartbeatAgeSeconds,
    &kWorkerSlowTotal,
    &kRetentionRemovedBytesTotal,
    &kDataDirFreeBytes,
    &kRpcsTotal,
    &kRpcDurationSeconds,
    &kBuildInfo,
    &kProcessStartTimeSeconds,
};

}  // namespace imageddpo::metric
