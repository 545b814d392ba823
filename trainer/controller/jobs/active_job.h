#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/config/job_plan.h"
#include "common/io/file_system.h"
#include "common/metrics/job_metrics.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/jobs/artifacts.h"
#include "trainer/controller/jobs/checkpoint_store.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/pool/gang_tracker.h"

namespace imageddpo {

/// A job while a gang works for it: takes its reports to files, checkpoints, events, metrics and
/// progress. A file that cannot be written is a warning on the job; only a lost last checkpoint
/// fails it. Thread-compatible: the controller's thread.
class ActiveJob {
 public:
  struct Dependencies {
    FileSystem& file_system;
    const Clock& clock;
    JobTable& table;
    EventHub& hub;
    std::shared_ptr<JobMetrics> metrics;
  };

  /// @param record  stays the table's; must outlive the object.
  ActiveJob(const Dependencies& dependencies, JobRecord& record, const Topology& topology,
            const std::vector<int>& world_ranks);

  /// Opens the job's folder, finds the newest complete checkpoint and cuts the files back to it.
  /// @return the message for every rank of the gang; an error fails the job.
  absl::StatusOr<v1::StartJob> Prepare();

  void OnProgress(const v1::Progress& report);
  void OnEpoch(const v1::EpochReport& report);
  void OnEval(const v1::EvalReport& report);
  void OnCheckpoint(const v1::Checkpoint& checkpoint);

  /// OK, or why the job's result is not on disk although its ranks ended well.
  absl::Status CheckResult() const;

  GangTracker& gang() { return gang_; }
  /// Names this formation of the gang; set by Prepare().
  const std::string& tag() const { return tag_; }
  JobRecord& record() { return record_; }

  /// Asks the ranks that still work to stop; they must have done so by this time.
  void StopBy(double deadline_s) { stop_deadline_s_ = deadline_s; }
  bool stopping() const { return stop_deadline_s_.has_value(); }
  bool StopOverdue(double now_s) const { return stopping() && now_s >= *stop_deadline_s_; }

 private:
  void Running();
  void ShowProgress();
  double SecondsLeft() const;
  void WarnIfError(const absl::Status& status);
  std::string NewTag() const;

  Dependencies dependencies_;
  JobRecord& record_;
  const Topology topology_;
  const std::vector<int> world_ranks_;
  const JobPlan plan_;
  GangTracker gang_;
  std::string tag_;
  JobArtifacts artifacts_;
  CheckpointStore checkpoints_;
  absl::Status newest_checkpoint_;    // How the last attempt to save one went.
  double last_report_s_ = 0;          // When the newest epoch was reported.
  std::deque<double> epoch_seconds_;  // From report to report, newest last: evaluations are in it.
  std::optional<double> stop_deadline_s_;
};

}  // namespace imageddpo
