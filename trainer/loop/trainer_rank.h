#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/comm/communicator.h"
#include "common/config/job_plan.h"
#include "common/diffusion/lora.h"
#include "common/worker/job_context.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {

/// The trainer side of a job on one rank: takes in every epoch's trajectories, trains, and, on the
/// first trainer rank (the leader), publishes LoRA versions and reports to the controller. The
/// phases are called once per epoch in this order; a rank that also samples calls the rollout's in
/// between. LoRA version v is the one after v trained epochs. All phases throw CommError.
class TrainerRank {
 public:
  /// @param index  of this rank among the gang's trainers; 0 is the leader.
  TrainerRank(JobContext* context, const JobPlan& plan, int index, Trainer* trainer, Lora* lora);

  bool is_leader() const { return index_ == 0; }

  /// Leader: starts to send the LoRA to all rollout ranks. Others: nothing, as the two below.
  void PublishWeights(int64_t version);
  absl::Status CheckReceipts(int64_t version);
  /// Leader: collects the evaluation's batches and reports it.
  absl::Status CollectEvaluation(int64_t version);

  /// Receives all of the epoch's micro-batches and trains on them; the leader reports.
  absl::Status TrainEpoch(int64_t epoch, int64_t version);

  /// Leader: hands the state after `epochs_trained` epochs to the controller.
  absl::Status SendCheckpoint();

 private:
  absl::StatusOr<std::vector<TrajectoryBatch>> Collect(int64_t epoch, int64_t version);
  void ReportEpoch(int64_t epoch, const std::vector<TrajectoryBatch>& batches,
                   const std::vector<UpdateMetrics>& rows);
  void Warn(const std::string& message);

  JobContext* context_;
  JobPlan plan_;
  int index_;
  Trainer* trainer_;
  Lora* lora_;
  std::vector<int> rollout_ranks_;
  std::vector<std::unique_ptr<Work>> publishing_;
  bool ratio_warned_ = false;
  /// Seconds on context_->clock of the epoch under way.
  double epoch_start_ = 0, publish_seconds_ = 0, wait_seconds_ = 0, train_seconds_ = 0;
};

}  // namespace imageddpo
