#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "common/config/job_plan.h"
#include "common/trajectory/publish/weight_publisher.h"
#include "common/trajectory/record/trajectory_inbox.h"
#include "common/worker/gang_timeouts.h"
#include "common/worker/job_context.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/guards/learning_guards.h"
#include "trainer/loop/epoch_work.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {

/// The trainer side of a job on one rank: takes in every epoch's trajectories, trains, and, on the
/// first trainer rank (the leader), publishes LoRA versions and reports to the controller. The
/// phases are called once per LoRA version in this order; a rank that also samples calls the
/// rollout's in between. LoRA version v is the one after v trained epochs. All phases throw
/// CommError.
class TrainerRank {
 public:
  /// @param index  of this rank among the gang's trainers; 0 is the leader.
  /// @param work   what the leader measures the speed of epochs against.
  TrainerRank(JobContext* context, const JobPlan& plan, int index, Trainer* trainer,
              const Lora* lora, const EpochWork& work);

  bool is_leader() const { return index_ == 0; }

  /// What SendCheckpoint() put into state.json; before the first phase. INVALID_ARGUMENT: it has
  /// another structure.
  absl::Status Restore(const nlohmann::json& state);

  /// Leader: takes in what each rollout rank found in data.path and tells the controller. The set
  /// goes into checkpoints. INVALID_ARGUMENT where two ranks have different ones. Once, first.
  absl::Status TakeDataReports();
  /// Leader: starts to send a copy of that version to all rollout ranks, where they need it.
  /// Does nothing on other trainers; so do the next two.
  void PublishWeights(int64_t version);
  /// Leader: waits for the receipts of all versions up to and including this one.
  absl::Status CheckReceipts(int64_t up_to);
  /// Leader: collects and reports the evaluations of the versions whose receipts it has checked.
  absl::Status CollectEvaluations();

  /// Receives all of the epoch's micro-batches and trains on them, taking in those of the next
  /// epochs meanwhile where sampling runs ahead; the leader reports, and judges the epoch by the
  /// job's guards. An error of a guard that leaves the state after the epoch usable comes from
  /// SendCheckpoint().
  absl::Status TrainEpoch(int64_t epoch);

  /// Leader: hands the state after the epochs trained so far to the controller, which writes it
  /// where the job's settings ask for a checkpoint, and otherwise keeps it until it needs one.
  /// @return the error of a guard that ends the gang after this epoch. A state that is to be thrown
  ///         away (RollsBack) is not sent.
  absl::Status SendCheckpoint();

 private:
  absl::Status CollectEvaluation(int64_t version);
  /// With checkpoint.best: its number and the LoRA. INVALID_ARGUMENT: there is no such number.
  absl::Status AddBest(int64_t version, v1::EvalReport* report) const;
  /// Lets the inbox take in the records up to those of `epoch`.
  void ExpectUpTo(int64_t epoch);
  /// Leader: reports that an update is under way, for those who watch the job.
  void ReportTraining(int64_t epoch);
  /// Leader: tells the controller what guards saw.
  void ReportFirings(const std::vector<Firing>& firings);
  /// Leader: has the guards judge the epoch. @return an error that leaves no usable state.
  absl::Status JudgeEpoch(const v1::EpochMetrics& metrics);
  void ReportEpoch(int64_t epoch, const std::vector<TrajectoryBatch>& batches,
                   const std::vector<v1::EpochMetrics>& rows);

  JobContext* context_;
  JobPlan plan_;
  GangTimeouts timeouts_;
  int index_;
  Trainer* trainer_;
  const Lora* lora_;
  EpochWork work_;
  std::vector<int> rollout_ranks_;
  WeightPublisher publisher_;
  TrajectoryInbox inbox_;
  int64_t next_expected_;                ///< The first epoch that the inbox does not expect yet.
  std::deque<int64_t> to_be_evaluated_;  ///< Versions that are bound everywhere.
  bool ratio_warned_ = false;
  LearningGuards guards_;
  absl::Status verdict_;  ///< Of the guards on the newest epoch.
  v1::DataReport data_;   ///< Of the first rollout rank; the leader's alone.
  /// Seconds on context_->clock of the epoch under way.
  double epoch_start_ = 0, publish_seconds_ = 0, wait_seconds_ = 0, train_seconds_ = 0;
};

}  // namespace imageddpo
