#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/local_control_channel.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// Of ScriptedWorkers::Script::epochs_allowed: they hold at none.
inline constexpr int64_t kAllEpochs = std::numeric_limits<int64_t>::max();

/// Workers that play a training job on the control plane, each on a thread, without a model: they
/// say hello, send heartbeats, and the leader of a gang reports epochs, evaluations and checkpoints
/// whose bytes are a function of job and epoch alone. Tests hold them at an epoch, fail them, kill
/// them.
class ScriptedWorkers {
 public:
  struct Script {
    int cores = 8;
    std::vector<std::string> hostnames;  ///< Of each worker; "host" where the list ends.
    /// Epochs that a gang may train: it waits before the next.
    std::atomic<int64_t> epochs_allowed{kAllEpochs};
    std::atomic<bool> says_hello{true};
    std::atomic<bool> heeds_stop{true};      ///< false: stuck, as in a call that never returns.
    std::atomic<bool> fails_to_load{false};  ///< JobEnded with INVALID_ARGUMENT.
    /// The leader sends its state after every epoch, as the real one does; else only where a
    /// checkpoint is due, so that a test can look at what a job without it goes back to.
    std::atomic<bool> sends_every_state{false};
    /// Lines that each rank logs when it loads: infos, the last one a warning.
    std::atomic<int> log_lines{0};
  };

  /// @param plane, script  must outlive the workers.
  ScriptedWorkers(LocalControlPlane& plane, const std::vector<int>& ranks, Script& script);
  ~ScriptedWorkers();

  /// The process dies: the rank says nothing more, and the control plane knows.
  void Kill(int rank, const std::string& reason);
  /// The rank's job ends with this error.
  void FailJob(int rank, const absl::Status& status);

  /// StartJob messages that came, in order of arrival; each rank's counts.
  std::vector<v1::StartJob> Started() const;
  uint64_t newest_lease() const { return newest_lease_.load(); }
  bool all_told_to_end() const { return shutdowns_.load() == static_cast<int>(ranks_.size()); }

  /// What the leader sends after `epochs` epochs.
  static v1::Checkpoint CheckpointOf(const v1::StartJob& start, int64_t epochs);
  static std::string MetricsRowOf(const v1::StartJob& start, int64_t epoch);

 private:
  struct Job {
    v1::StartJob start;
    int64_t epoch = 0;  // Trained so far.
    bool leads = false;
    bool loaded = false;
  };
  void Run(int rank, int index);
  bool Step(WorkerChannel& channel, Job& job);  // True: the job is over for this rank.
  void ReportEpoch(WorkerChannel& channel, Job& job);
  void ReportEval(WorkerChannel& channel, const Job& job);
  void ReportLog(WorkerChannel& channel, const Job& job);
  void End(WorkerChannel& channel, const v1::StartJob& start, const absl::Status& status);

  LocalControlPlane& plane_;
  const std::vector<int> ranks_;
  Script& script_;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> newest_lease_ = 0;
  std::atomic<int> shutdowns_ = 0;
  mutable absl::Mutex mutex_;
  std::vector<v1::StartJob> started_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> finished_tags_ ABSL_GUARDED_BY(mutex_);  // Whose leader is done.
  std::set<int> killed_ ABSL_GUARDED_BY(mutex_);
  std::map<int, absl::Status> to_fail_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace imageddpo
