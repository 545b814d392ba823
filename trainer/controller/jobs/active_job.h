#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/config/resolved_job.h"
#include "common/config/topology.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/artifacts/checkpoint_store.h"
#include "trainer/controller/artifacts/job_artifacts.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/pool/gang_tracker.h"
#include "trainer/controller/pool/scheduler.h"
#include "trainer/controller/store/artifact_writer.h"
#include "trainer/controller/store/backoff.h"
#include "trainer/controller/tensorboard/tensorboard_log.h"

namespace imageddpo {

/// A job while a gang works for it: turns the gang's reports into files, checkpoints, events,
/// metrics and progress. A file that cannot be written becomes a warning on the job, is kept in
/// memory and tried again: the disk is the service's, so no job is FAILED for it.
/// Thread-compatible: used by the controller's thread.
class ActiveJob {
 public:
  struct Dependencies {
    FileSystem& file_system;
    const Clock& clock;
    JobTable& table;
    EventHub& hub;
    ArtifactWriter& writer;
    ServiceMetrics& service_metrics;
    std::shared_ptr<JobMetrics> metrics;
  };

  /// @param record  owned by the table; must outlive this object.
  /// @param job     the record's, judged.
  ActiveJob(const Dependencies& dependencies, JobRecord& record, const ResolvedJob& job,
            const Topology& topology, const std::vector<int>& world_ranks);

  /// Creates or reopens the job's folder, finds the newest complete checkpoint and removes later
  /// rows from the job's files.
  /// @return the StartJob message for every rank of the gang. An error is one of the service's
  ///         folder, where nothing has changed and a new ActiveJob may try again; with a Fault of
  ///         the job, that would fail again: a branch has lost the checkpoint that it started from.
  absl::StatusOr<v1::StartJob> Prepare();

  void OnProgress(const v1::Progress& report);
  void OnData(const v1::DataReport& report);
  void OnWaiting(int world_rank, const v1::Waiting& report);
  void OnRewardCall(const v1::RewardCall& report);
  void OnTrace(int world_rank, v1::Trace trace);
  void OnLog(int world_rank, const v1::LogReport& report);
  void OnEpoch(v1::EpochReport report);
  void OnEval(v1::EvalReport report);
  /// The state after an epoch. It is written where the job's settings ask for that or somebody
  /// wants a checkpoint, and otherwise kept in memory until the next one comes.
  void OnCheckpoint(v1::Checkpoint checkpoint);

  /// Has the next state written, whatever the settings say.
  void WantCheckpoint() { wants_checkpoint_ = true; }
  /// Has the job leave its ranks after the epoch under way, and wait for others; the reason is
  /// shown with it. Empty: it stays.
  void MoveOff(const std::string& reason) {
    move_reason_ = reason;
    if (!reason.empty()) WantCheckpoint();
  }
  const std::string& move_reason() const { return move_reason_; }
  /// Whether ranks train an epoch whose state somebody wants, and nothing but time is missing.
  bool AwaitsCheckpoint() const;
  /// Writes the state of the last finished epoch, rows and the best LoRA, unless they are on disk.
  void WriteKept();
  /// Whether the last try failed.
  bool write_failed() const { return write_backoff_.failing(); }
  /// Whether it failed so recently that the next one should wait.
  bool TooEarly() const;
  /// Whether the last finished epoch, all rows and the best LoRA are on disk.
  bool AllWritten() const;

  /// The job has all that it needs of this gang, which is only being stopped: what it still reports
  /// would be of an epoch that will run again.
  void Close() { closed_ = true; }
  bool closed() const { return closed_; }

  /// OK, or why the result of a job whose ranks all ended well is not the one that is on disk.
  /// After AllWritten().
  absl::Status CheckResult() const;

  GangTracker& gang() { return gang_; }
  /// The unique name of this formation of the gang; set by Prepare().
  const std::string& tag() const { return tag_; }
  JobRecord& record() { return record_; }

  /// Notes that the ranks were told to stop, and by when they must have stopped.
  void StopBy(double deadline_s) { stop_deadline_s_ = deadline_s; }
  bool stopping() const { return stop_deadline_s_.has_value(); }
  bool StopOverdue(double now_s) const { return stopping() && now_s >= *stop_deadline_s_; }

  /// Notes for how long ranks have worked for the job. @return whether its max_seconds are over.
  bool CountSeconds();
  /// What the queue may expect of its ranks.
  GangForecast Forecast() const;

 private:
  void Running();
  void ShowProgress();
  double SecondsLeft() const;
  double MeanEpochSeconds() const;  ///< -1: not known.
  /// Keeps the LoRA of an evaluation that is the best so far.
  void KeepBest(v1::EvalReport* report);
  absl::Status SaveBest();  ///< Of unsaved_best_, which is set.
  void ShowBest();          ///< In the record.
  void WarnIfError(const absl::Status& status);
  void PutPictures(ArtifactWriter::Folder folder);
  /// A folder of one file; without files if its content is empty.
  ArtifactWriter::Folder OneFile(TensorBoardLog::File file) const;
  /// The outcome of an attempt to write what the job needs: sets or clears its reason and the time
  /// of the next attempt.
  void Tried(const absl::Status& status);
  std::string NewTag() const;
  bool IsDue(const v1::Checkpoint& checkpoint) const;
  /// @return false: it is not on disk, and the job has a warning.
  bool Write(const v1::Checkpoint& checkpoint);

  Dependencies dependencies_;
  JobRecord& record_;
  const ResolvedJob job_;
  const Topology topology_;
  const std::vector<int> world_ranks_;
  GangTracker gang_;
  std::string tag_;
  JobArtifacts artifacts_;
  TensorBoardLog tensorboard_;
  CheckpointStore checkpoints_;
  absl::Status result_;  // Of the last attempt to save a checkpoint.
  Backoff write_backoff_;
  int64_t written_epoch_ = 0;           // Of the newest checkpoint on disk.
  std::optional<v1::Checkpoint> kept_;  // Newer than what is on disk.
  bool wants_checkpoint_ = false;
  bool closed_ = false;
  std::string move_reason_;                    // Not empty: see MoveOff().
  double last_write_s_ = 0;                    // Of a checkpoint, or when the gang was formed.
  std::optional<CheckpointStore::Best> best_;  // With checkpoint.best: what is on disk.
  struct UnsavedBest {
    CheckpointStore::Best best;
    std::string lora;
  };
  std::optional<UnsavedBest> unsaved_best_;
  double formed_s_ = 0;                 // When this object was made.
  double run_before_s_ = 0;             // JobProgress.run_seconds then.
  std::optional<double> gone_s_;        // When the last rank had ended.
  double last_report_s_ = 0;            // When the newest epoch was reported.
  std::deque<double> epoch_seconds_;    // Between reports, evaluations included; newest last.
  std::map<int, std::string> waiting_;  // What ranks wait for outside of the service.
  std::optional<double> stop_deadline_s_;
};

}  // namespace imageddpo
