#pragma once

#include <google/protobuf/map.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/resolved_job.h"
#include "common/model_config/model_count.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/jobs/running_jobs.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {

/// The verbs: what a user asks of jobs. Each is a method that checks the job's state, changes it
/// through JobTable, which keeps to the table of transitions, and adjusts queue and gang. A verb
/// answers at once with the job as it then is; it waits for no worker. CONTRIBUTING.md lists what a
/// new verb takes. Thread-compatible: used by the controller's thread.
class JobService {
 public:
  /// How many jobs there may be; 0: any number.
  struct QueueLimits {
    int64_t max_jobs = 0;              ///< That have not ended.
    int64_t queued_jobs_of_owner = 0;  ///< That wait or are held.
  };

  struct Dependencies {
    JobTable& table;
    Scheduler& scheduler;
    RunningJobs& running;
    /// Whether the service is about to end or to restart, and so takes no new job.
    std::function<bool()> is_ending;
    QueueLimits limits = {};
  };

  explicit JobService(Dependencies dependencies);

  struct NewJob {
    /// As AdmitJob() returned it. Not set: the request is known to be a repeated one.
    std::optional<ResolvedJob> job;
    std::string request_id;
    std::string request_sha256;
    std::optional<ModelCount> model = std::nullopt;  ///< Not set: the model could not be counted.
    std::string owner = "";                          ///< See Job.owner.
    int32_t priority = 0;
    google::protobuf::Map<std::string, std::string> labels = {};
    double max_seconds = 0;  ///< See Job.max_seconds.
    bool hold = false;       ///< PAUSED at first.
  };
  /// See TrainerService.SubmitJob.
  absl::StatusOr<v1::Job> Submit(NewJob job);
  /// See TrainerService.CancelJob.
  absl::StatusOr<v1::Job> Cancel(const std::string& id);
  /// See TrainerService.PauseJob. Once more on a job that is PAUSING or PAUSED: the same, or
  /// `immediately` after all; one that waits for something that is away no longer goes on by
  /// itself.
  absl::StatusOr<v1::Job> Pause(const std::string& id, bool immediately);
  /// See TrainerService.ResumeJob. @param epoch  not set: the newest checkpoint.
  absl::StatusOr<v1::Job> Resume(const std::string& id, std::optional<int64_t> epoch);
  /// See TrainerService.CheckpointJob.
  absl::StatusOr<v1::Job> Checkpoint(const std::string& id);
  /// See TrainerService.ProfileJob.
  absl::StatusOr<v1::Job> Profile(const std::string& id, int64_t num_epochs);
  /// See TrainerService.BranchJob. Priority and labels are those of the other job.
  /// @param epoch  not set: the newest checkpoint.
  /// @param job    the other job's settings with the changes, as AdmitJob() returned it.
  absl::StatusOr<v1::Job> Branch(const std::string& id, std::optional<int64_t> epoch, NewJob job);
  /// See TrainerService.UpdateJob.
  absl::StatusOr<v1::Job> Update(const v1::UpdateJobRequest& request);
  /// See TrainerService.DeleteJob. Moves the job's folder to JobStore::DeletedDir(), where the
  /// caller removes it. @return the job as it was.
  absl::StatusOr<v1::Job> Delete(const std::string& id);
  /// Moves folders of a job that has ended, by their names below its own, to
  /// JobStore::RetiredDir(), where the caller removes them. Those that are missing are left out.
  absl::StatusOr<v1::Job> Retire(const std::string& id, const std::vector<std::string>& names);

 protected:
  /// What most verbs begin with. @return FAILED_PRECONDITION: the job has already ended; NOT_FOUND:
  /// there is none with this id.
  absl::StatusOr<JobRecord*> Unfinished(const std::string& id);

  const Dependencies dependencies_;
  JobTable& table_;
  Scheduler& scheduler_;
  RunningJobs& running_;

 private:
  /// The job of an earlier request with this id. ALREADY_EXISTS: that asked for something else.
  absl::StatusOr<std::optional<v1::Job>> FindRepeated(const NewJob& job) const;
  /// OK: nobody who has not ended reads files of the job.
  absl::Status CheckUnused(const std::string& id);
  absl::StatusOr<v1::Checkpoint> CheckpointToBranch(const std::string& id,
                                                    std::optional<int64_t> epoch) const;
  /// Gives a new job the checkpoint from which it starts, and the rows before that.
  absl::Status TakeOver(JobRecord& record, const v1::Checkpoint& checkpoint);
  absl::Status UpdateEpochs(JobRecord& record, int64_t num_epochs);
  void Enqueue(const JobRecord& record, const ResolvedJob& job);
  /// RESOURCE_EXHAUSTED: another job of this owner may not be put into the queue now.
  absl::Status CheckRoom(const std::string& owner) const;
  static absl::Status Unrunnable(const std::string& id, const absl::Status& why);
  /// UNAVAILABLE: the service takes no job now.
  absl::Status CheckOpen() const;
  /// Closes what the settings leave to the pool. @param warnings  gets those about memory.
  /// @return FAILED_PRECONDITION: the pool cannot run the job.
  absl::StatusOr<ResolvedJob> FitToPool(const ResolvedJob& job,
                                        const std::optional<ModelCount>& model,
                                        std::vector<std::string>* warnings) const;
  absl::StatusOr<ResolvedJob> CloseForPool(const ResolvedJob& job,
                                           const std::optional<ModelCount>& model,
                                           std::vector<std::string>* warnings) const;
};

}  // namespace imageddpo
