#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace imageddpo {

/// Settings of one service: v1.ClusterFile over these defaults. The file is optional.
struct ClusterConfig {
  std::string data_dir = "out/imageddpo";  ///< Jobs, checkpoints, job store. Rank 0 writes here.
  std::string base_dir;  ///< Relative paths in jobs start here; empty: where it was started.
  std::vector<std::string>
      allowed_roots;  ///< Jobs may name paths below these; empty: base_dir alone.
  struct {
    /// `unix:PATH`, or an address for TCP: with TLS and tokens (see `access`), unless `insecure`.
    /// Empty: the socket api.sock in data_dir.
    std::string address = "";
    int64_t port = 50051;  ///< TCP. 0: a free port, written to <data_dir>/service.json.
    /// TCP without TLS and tokens, on a loopback address alone: every user of this host is an
    /// admin.
    bool insecure = false;
    /// Members of this group may use the Unix socket, as submitters; empty: the service's user
    /// alone.
    std::string group = "";
    int64_t max_message_bytes = 4 << 20;  ///< Of a request.
    int64_t max_streams = 128;            ///< Calls under way on one connection; others wait.
  } grpc;
  struct {
    std::string address = "127.0.0.1";
    int64_t port = 9464;  ///< 0: a free port.
    /// Answers without a token, to every user of this host; on a loopback address alone.
    bool insecure = false;
    /// TLS with the certificates of `access`. Resolved: true on every address but a loopback one.
    bool tls = false;
  } http;
  /// Files of tokens and certificates; empty: as named, in the folder access of data_dir.
  struct {
    std::string token_file = "";            ///< tokens.json
    std::string tls_certificate_file = "";  ///< server.pem
    std::string tls_key_file = "";          ///< server.key
    std::string tls_client_ca_file = "";    ///< Clients need a certificate of it; empty: none.
  } access;
  struct {
    /// With fewer live workers than this the service drains and exits with 75, even if jobs run. 0:
    /// as many as were started.
    int64_t min_ranks = 1;
    double heartbeat_timeout_seconds = 10;  ///< A worker silent this long counts as dead.
    double lease_seconds = 10;  ///< A worker that hears nothing from rank 0 for this long exits 75.
    /// A worker that has not ended its job this long after it was told to is killed. Longer than a
    /// micro-batch takes.
    double stop_timeout_seconds = 60;
    int64_t max_restarts = 3;  ///< Of a job without a finished epoch in between; then FAILED.
    /// How long a stop of the service waits for the epochs under way, so that they are not lost.
    /// With the time that workers take to end (20 s) it has to fit into what the launcher leaves.
    double drain_seconds = 30;
  } pool;
  struct {
    /// Of jobs with the same priority, those of the owner come first whose jobs have taken the
    /// fewest rank-seconds lately; those from this long ago count half. 0: in order of submission.
    double fair_share_half_life_hours = 24;
    bool backfill = true;  ///< Others go past a job that waits, if that does not delay it.
    std::string preemption =
        "off";                 ///< off | lower_priority: these are paused for a job that waits.
    int64_t max_jobs = 10000;  ///< That have not ended.
  } queue;
  /// Of each owner; 0: no limit.
  struct {
    int64_t queued_jobs = 0;    ///< Jobs that wait in the queue or are held.
    int64_t running_ranks = 0;  ///< Ranks at work.
    int64_t disk_bytes = 0;     ///< Of the files of its jobs; above it no job is taken.
  } quotas;
  /// Of jobs that have ended; 0: nothing is removed for that reason. See RetentionRules.
  struct {
    double events_days = 0, pictures_days = 0, checkpoints_days = 0;  ///< After a job's end.
    int64_t max_bytes = 0;                                            ///< Of all jobs' files.
    int64_t min_free_bytes = 0;  ///< Of the disk; below it no job is taken either.
  } retention;
  /// `rewards.allow`: what jobs of all submitters may name, see CheckAllowedRewards().
  std::vector<std::string> rewards_allow;
  /// Log lines of every rank; they go to standard error in any case.
  struct {
    std::string format = "text";   ///< text, or json: one object a line.
    std::string file = "";         ///< Rank N writes them to FILE.rank-N too; empty: no.
    int64_t max_bytes = 64 << 20;  ///< Of that file; then a new one begins.
    int64_t max_files = 5;         ///< So many full ones are kept.
  } log;
  std::string log_level = "info";  ///< trace | debug | info | warn | error
};

/// Reads cluster.yaml. @return INVALID_ARGUMENT naming file, line, key and the closest known key;
/// NOT_FOUND naming the file.
absl::StatusOr<ClusterConfig> LoadClusterConfig(const std::string& file);

/// Checks ranges and makes paths absolute (base_dir against the working directory, then the rest);
/// puts in the addresses and files that are left to data_dir.
absl::Status ResolveClusterConfig(ClusterConfig* config);

}  // namespace imageddpo
