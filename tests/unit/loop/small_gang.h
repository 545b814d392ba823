#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/comm/communicator.h"
#include "common/trajectory/record/trajectory_wire.h"
#include "common/worker/job_context.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "tests/testing/fake_clock.h"
#include "tests/unit/loop/small_job.h"
#include "trainer/loop/trainer_rank.h"

namespace imageddpo {

/// One trainer rank of a gang whose first ranks sample, with the context that a worker gives it.
class TrainerSide {
 public:
  /// Seconds by which the clock moves when training starts.
  static constexpr double kTrainSeconds = 3;

  /// @param index  among the trainers. @param gang  of that rank; outlives this.
  TrainerSide(const v1::JobSpec& job, int num_trainers, int index, Communicator* gang);

  /// The reports of one kind so far.
  int Count(v1::WorkerMessage::MessageCase kind) const;
  const v1::EpochReport& last_epoch() const { return reports.back().epoch(); }

  FakeClock clock;
  StopToken stop;
  SmallModel model;
  std::vector<v1::WorkerMessage> reports;
  std::function<void()> when_training_starts = [] {};  ///< On the leader: it reports that.
  std::optional<Trainer> trainer;
  std::optional<TrainerRank> rank;

 private:
  void Report(v1::WorkerMessage message);

  v1::StartJob start_;
  JobContext context_;
  Policy policy_;
  std::optional<ShardExchange> exchange_;
};

/// The rollout ranks, played by the test's thread.
class RolloutSide {
 public:
  RolloutSide(int num_trainers, const UpdateSchedule& schedule,
              const std::vector<std::unique_ptr<Communicator>>& gang);

  /// Sends an epoch's records to all trainers: those of the first rank in `order` before those of
  /// the next.
  void Send(const std::vector<TrajectoryBatch>& batches, const std::vector<int>& order = {0, 1});
  void SendOne(int rank, const TrajectoryBatch& batch);
  /// @throws CommError  a record has not been taken in by now.
  void Flush();

  /// What a rank is sent as the next version: the announcement and the values [P].
  std::pair<v1::WeightAnnouncement, at::Tensor> TakeWeights(int rank, int64_t num_parameters);
  static v1::WeightReceipt ReceiptFor(const v1::WeightAnnouncement& announcement);
  void Answer(int rank, int tag, const google::protobuf::Message& message);
  /// All ranks take the next version and answer as they should.
  void TakeAndAnswer(int64_t num_parameters);
  /// Whether a version is there for a rank to take; to be asked once, and last.
  bool HasWeights(int rank, int from_trainer);

 private:
  int num_trainers_;
  UpdateSchedule schedule_;
  std::vector<Communicator*> gang_;
  std::vector<TrajectorySender> senders_;  ///< Of rank r to trainer t: r · num_trainers_ + t.
};

/// A gang of one trainer.
class SmallGang {
 public:
  static constexpr int kNumRollout = 2;  ///< Gang ranks 0 and 1 sample, those after them train.

  explicit SmallGang(const v1::JobSpec& spec);

  int64_t num_parameters() const { return leader.model.lora.num_parameters(); }
  at::Tensor LoraValues() const { return leader.model.lora.Flatten(); }
  /// An epoch under the LoRA that the leader has now.
  std::vector<TrajectoryBatch> Sample(int64_t epoch, int64_t version) const {
    return SampleEpoch(leader.model, job, epoch, version);
  }

  const v1::JobSpec job;
  const std::vector<std::unique_ptr<Communicator>> communicators;
  TrainerSide leader;
  RolloutSide rollout;
};

}  // namespace imageddpo
