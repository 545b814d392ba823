#include "tests/unit/loop/small_gang.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "common/base/logging.h"
#include "common/comm/frame.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/trajectory/record/tags.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

constexpr std::chrono::seconds kTimeout{20};
constexpr int kNumRollout = SmallGang::kNumRollout;
constexpr int kLeader = kNumRollout;
constexpr size_t kManyRecords = 1000;  // The test's thread must not wait for credits.

}  // namespace

TrainerSide::TrainerSide(const v1::JobSpec& job, int num_trainers, int index, Communicator* gang)
    : context_{.start = start_,
               .gang_rank = gang->rank(),
               .gang = *gang,
               .device = at::kCPU,
               .clock = clock,
               .logger = *MakeLogger({.level = "off"}),
               .stop = stop,
               .report = [this](v1::WorkerMessage message) { Report(std::move(message)); }},
      policy_(model.MakePolicy(job)) {
  start_.set_job_id("job-1");
  *start_.mutable_spec() = job;
  std::vector<int> trainers;
  for (int r = 0; r < kNumRollout; ++r) start_.mutable_gang()->add_rollout(r);
  for (int t = 0; t < num_trainers; ++t) {
    trainers.push_back(kNumRollout + t);
    start_.mutable_gang()->add_trainer(trainers.back());
  }
  exchange_.emplace(gang, trainers, index, ReduceKind::kExact, kTimeout);
  const JobPlan plan = Judged(job).plan();
  trainer.emplace(Judged(job), policy_, &model.lora, MakeAdvantageRule(Judged(job).advantage()),
                  MakeLossRule(Judged(job)), &*exchange_);
  rank.emplace(&context_, plan, index, &*trainer, &model.lora,
               EpochWork{.forward = 1, .num_steps = 2, .replays = 1, .peak_flops = 1});
}

int TrainerSide::Count(v1::WorkerMessage::MessageCase kind) const {
  int count = 0;
  for (const auto& report : reports) count += report.message_case() == kind ? 1 : 0;
  return count;
}

void TrainerSide::Report(v1::WorkerMessage message) {
  // The others say that training goes on.
  const bool is_start =
      message.has_progress() && (reports.empty() || !reports.back().has_progress());
  reports.push_back(std::move(message));
  if (!is_start) return;
  clock.Advance(kTrainSeconds);
  when_training_starts();
}

RolloutSide::RolloutSide(int num_trainers, const UpdateSchedule& schedule,
                         const std::vector<std::unique_ptr<Communicator>>& gang)
    : num_trainers_(num_trainers), schedule_(schedule) {
  for (int r = 0; r < kNumRollout; ++r) {
    gang_.push_back(gang[r].get());
    for (int t = 0; t < num_trainers; ++t) {
      senders_.emplace_back(gang_.back(), kNumRollout + t, kManyRecords);
    }
  }
}

void RolloutSide::Send(const std::vector<TrajectoryBatch>& batches, const std::vector<int>& order) {
  for (const int rank : order) {
    for (const auto& batch : batches) {
      if (schedule_.SamplerOf(batch.micro_batch, kNumRollout) == rank) SendOne(rank, batch);
    }
  }
}

void RolloutSide::SendOne(int rank, const TrajectoryBatch& batch) {
  const auto needed = schedule_.LatentsNeeded(batch.epoch);
  for (int t = 0; t < num_trainers_; ++t) {
    senders_[rank * num_trainers_ + t].Send(
        batch, {.latents = needed[t][batch.micro_batch], .pictures = t == 0}, kTimeout);
  }
}

void RolloutSide::Flush() {
  for (auto& sender : senders_) sender.Flush(std::chrono::milliseconds(0));
}

std::pair<v1::WeightAnnouncement, at::Tensor> RolloutSide::TakeWeights(int rank,
                                                                       int64_t num_parameters) {
  v1::WeightAnnouncement announcement;
  EXPECT_TRUE(announcement.ParseFromString(gang_[rank]->RecvBytes(kLeader, kWeightsTag, kTimeout)));
  const at::Tensor values_P = at::empty({num_parameters});
  // The leader has a child for each of these two ranks, so neither waits for the other.
  const RankGroup group{.ranks = {0, 1, kLeader}, .tag = kWeightsTag};
  gang_[rank]->Broadcast(values_P, kLeader, group)->Wait(kTimeout);
  return {announcement, values_P};
}

v1::WeightReceipt RolloutSide::ReceiptFor(const v1::WeightAnnouncement& announcement) {
  v1::WeightReceipt receipt;
  receipt.set_version(announcement.version());
  receipt.set_modules_bound(announcement.num_modules());
  receipt.set_hash(announcement.hash());
  return receipt;
}

void RolloutSide::Answer(int rank, int tag, const google::protobuf::Message& message) {
  if (tag != kEvalTag) {
    gang_[rank]->SendBytes(message.SerializeAsString(), kLeader, tag);
    return;
  }
  const std::unique_ptr<google::protobuf::Message> copy(message.New());  // ToFrame() empties it.
  copy->CopyFrom(message);
  gang_[rank]->SendBytes(ToFrame(copy.get()).value(), kLeader, tag);
}

void RolloutSide::TakeAndAnswer(int64_t num_parameters) {
  for (int rank = 0; rank < kNumRollout; ++rank) {
    Answer(rank, kReceiptTag, ReceiptFor(TakeWeights(rank, num_parameters).first));
  }
}

bool RolloutSide::HasWeights(int rank, int from_trainer) {
  try {
    gang_[rank]->RecvBytes(kNumRollout + from_trainer, kWeightsTag, std::chrono::milliseconds(0));
    return true;
  } catch (const CommError&) {
    return false;
  }
}

SmallGang::SmallGang(const v1::JobSpec& spec)
    : job(spec),
      communicators(MakeThreadCommunicators(kNumRollout + 1)),
      leader(job, 1, 0, communicators[kLeader].get()),
      rollout(1, leader.trainer->schedule(), communicators) {}

}  // namespace imageddpo
