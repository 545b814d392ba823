#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/diffusion/keyed_noise.h"
#include "common/metrics/epoch_metrics.h"
#include "tests/testing/judged.h"
#include "tests/unit/loop/small_job.h"
#include "trainer/loop/trainer.h"

namespace imageddpo {

using Epochs = std::vector<std::vector<TrajectoryBatch>>;

inline constexpr int kMostRanks = 3;

/// What one rank has in the end.
struct Outcome {
  absl::Status status;  ///< Of the first epoch that did not end well.
  std::vector<v1::EpochMetrics> rows;
  at::Tensor lora_P;
  std::map<std::string, at::Tensor> optimizer;
  std::string state;

  /// AdamW's moment "m" or "v", float64 [P] in the order of the parameters.
  at::Tensor Moment(const std::string& kind, const Lora& lora) const {
    std::vector<at::Tensor> flat;
    for (const std::string& name : lora.ParameterNames()) {
      flat.push_back(optimizer.at(absl::StrCat(kind, ".", name)).reshape({-1}));
    }
    return at::cat(flat).to(at::kDouble);
  }
  int64_t steps() const { return optimizer.at("step").item<int64_t>(); }
};

class TrainerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new std::vector<SmallModel>(kMostRanks); }
  static void TearDownTestSuite() {
    delete models_;
    models_ = nullptr;
  }

  void SetUp() override { Reset(); }
  void TearDown() override { Reset(); }

  /// All models have the LoRA again that they were made with.
  static void Reset() {
    static const at::Tensor start_P = models_->front().lora.Flatten();
    for (SmallModel& model : *models_) model.lora.Unflatten(start_P);
  }

  static SmallModel& model() { return models_->front(); }

  /// Trains epoch after epoch from the start on this many ranks, as threads. A rank has the latents
  /// of those micro-batches alone that it owns; in a single pass, their GradientsOf().
  static std::vector<Outcome> Train(int num_ranks, const v1::JobSpec& job, const Epochs& epochs,
                                    const Trainer::Between& between = absl::OkStatus) {
    Reset();
    const auto gang = MakeThreadCommunicators(num_ranks);
    std::vector<int> ranks;
    for (int rank = 0; rank < num_ranks; ++rank) ranks.push_back(rank);
    std::vector<Outcome> outcomes(num_ranks);
    RunOnThreads(num_ranks, [&](int rank) {
      SmallModel& model = (*models_)[rank];
      Outcome& outcome = outcomes[rank];
      const ReduceKind reduce = Judged(job).reduce();
      ShardExchange exchange(gang[rank].get(), ranks, rank, reduce, std::chrono::seconds(60));
      const Policy policy = model.MakePolicy(job);
      const JobPlan plan = Judged(job).plan();
      SampleGradients gradients;
      Trainer trainer(Judged(job), policy, &model.lora, MakeAdvantageRule(Judged(job).advantage()),
                      MakeLossRule(Judged(job)), &exchange, &gradients);
      for (int64_t m = 0; plan.single_pass && m < plan.micro_batches_per_epoch; ++m) {
        if (trainer.schedule().SamplerOf(m, num_ranks) == rank) gradients.Put(m, GradientsOf(m));
      }
      for (size_t epoch = 0; epoch < epochs.size() && outcome.status.ok(); ++epoch) {
        outcome.status = TrainEpoch(trainer, rank, static_cast<int64_t>(epoch), epochs[epoch],
                                    between, &outcome.rows);
      }
      EXPECT_TRUE(gradients.empty());
      outcome.lora_P = model.lora.Flatten();
      outcome.optimizer = trainer.OptimizerTensors();
      outcome.state = trainer.StateJson().dump();
    });
    return outcomes;
  }

  /// [B,P] of a micro-batch of epoch 0, in a single pass: what a rollout would have collected.
  static at::Tensor GradientsOf(int64_t m) {
    return KeyedNormal({.seed = 5, .sample = static_cast<uint64_t>(m)},
                       {2, model().lora.num_parameters()})
        .mul_(0.01);
  }

  static absl::Status TrainEpoch(Trainer& trainer, int rank, int64_t epoch,
                                 std::vector<TrajectoryBatch> batches,
                                 const Trainer::Between& between,
                                 std::vector<v1::EpochMetrics>* rows) {
    const std::vector<bool> needed = trainer.schedule().LatentsNeeded(epoch)[rank];
    for (size_t m = 0; m < batches.size(); ++m) {
      if (needed[m]) continue;
      batches[m].latents = batches[m].means = batches[m].base_means = at::Tensor();
    }
    try {
      const auto found = trainer.TrainEpoch(epoch, batches, between);
      if (!found.ok()) return found.status();
      rows->insert(rows->end(), found->begin(), found->end());
    } catch (const CommError& error) {
      return ToStatus(error);
    }
    return absl::OkStatus();
  }

  static void ExpectSameBits(const Outcome& found, const Outcome& expected) {
    EXPECT_TRUE(found.status.ok()) << found.status;
    ASSERT_EQ(found.rows.size(), expected.rows.size());
    for (size_t row = 0; row < found.rows.size(); ++row) {
      EXPECT_EQ(RowOf(found.rows[row]).dump(), RowOf(expected.rows[row]).dump());
    }
    EXPECT_TRUE(found.lora_P.equal(expected.lora_P));
    ASSERT_EQ(found.optimizer.size(), expected.optimizer.size());
    for (const auto& [name, tensor] : expected.optimizer) {
      EXPECT_TRUE(found.optimizer.at(name).equal(tensor)) << name;
    }
    EXPECT_EQ(found.state, expected.state);
  }

  static inline std::vector<SmallModel>* models_ = nullptr;
};

}  // namespace imageddpo
