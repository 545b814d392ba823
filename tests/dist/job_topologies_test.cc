// Whole small jobs with the demo's model, ranks as threads: the same bits on every topology, in
// lock-step and running ahead, before and after a resume.

#include "tests/dist/job_topologies.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/logging.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/config/job_config.h"
#include "deploy/imageddpod/job_function.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

constexpr size_t kRowsPerEpoch = 4;

class SameBits : public JobTopologies {
 protected:
  static v1::JobSpec Job(int64_t staleness) {
    v1::JobSpec job = *ParseJobYaml(
        "seed: 3\n"
        "rewards: [{type: jpeg, measure: incompressibility}]\n"
        "eval: {every_epochs: 2, batch_size: 1, num_pictures: 0}\n"
        "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 12,\n"
        "         num_batches_per_epoch: 1}\n"
        "train: {batch_size: 6, learning_rate: 0.01, clip_range: 0.001, num_inner_epochs: 2}\n"
        "advantage: {mode: per_key, buffer_size: 4, min_count: 2}\n"
        "checkpoint: {every_epochs: 2}\n"
        "device: {device_batch_size: 2, num_threads: 1}\n",
        "job.yaml");
    SetModelAndData(&job);
    job.mutable_sample()->set_max_staleness(staleness);
    job = Judged(job).spec();
    return job;
  }

  /// Job(0) with more settings.
  static v1::JobSpec JobWith(const std::string& yaml) {
    v1::JobSpec job = Job(0);
    const v1::JobSpec more = *ParseJobYaml(yaml, "job.yaml");
    if (more.rewards_size() > 0) job.clear_rewards();
    job.MergeFrom(more);
    return Judged(job).spec();
  }

  /// Runs the job alone, on another topology, and from its middle on a third. @return  the first.
  static JobOutcome ExpectSameEverywhere(const v1::JobSpec& job) {
    JobOutcome alone = RunOnThreads(job, Colocated(1));
    EXPECT_EQ(alone.rows.size(), kEpochs * kRowsPerEpoch);
    ExpectSame(RunOnThreads(job, Split(3, 2)), alone, Split(3, 2));
    ExpectSameAfterAResume(job, alone, 2, Colocated(2));
    return alone;
  }
};

struct Case {
  int64_t staleness;
  std::vector<Topology> topologies;               ///< Against colocated 1.
  std::vector<std::pair<int, Topology>> resumes;  ///< After so many epochs, on this topology.
};

class AtStaleness : public SameBits, public testing::WithParamInterface<Case> {};

TEST_P(AtStaleness, TheSameBitsOnEveryTopologyAndAfterAResume) {
  const v1::JobSpec job = Job(GetParam().staleness);
  const JobOutcome alone = RunOnThreads(job, Colocated(1));
  ASSERT_EQ(alone.rows.size(), kEpochs * kRowsPerEpoch);
  EXPECT_EQ(alone.evaluations.size(), 3U);  // 0, 2 and the last.
  ASSERT_EQ(alone.checkpoints.size(), static_cast<size_t>(kEpochs));
  for (const auto& [epoch, checkpoint] : alone.checkpoints) {
    EXPECT_EQ(checkpoint.spare(), epoch == 3) << epoch;  // Due are 1, 2 and the last.
  }
  for (const Topology& topology : GetParam().topologies) {
    ExpectSame(RunOnThreads(job, topology), alone, topology);
  }
  for (const auto& [epoch, topology] : GetParam().resumes) {
    ExpectSameAfterAResume(job, alone, epoch, topology);
  }
}

// The grid of topologies where both sides run at once; lock-step and more have a sample of it.
INSTANTIATE_TEST_SUITE_P(
    Jobs, AtStaleness,
    testing::Values(Case{0, {Split(3, 2)}, {}},
                    Case{1,
                         {Colocated(3), Split(1, 1), Split(3, 2), Split(2, 3), Split(5, 3)},
                         // After 3, no rank samples or evaluates with the version it trains from.
                         {{1, Split(2, 2)}, {2, Colocated(2)}, {3, Colocated(1)}}},
                    Case{2, {Split(2, 3)}, {{2, Colocated(2)}}}),
    [](const auto& info) { return absl::StrCat("Staleness", info.param.staleness); });

TEST_F(SameBits, TheStateAfterAnEpochWithoutACheckpointIsThatOfOneWith) {
  v1::JobSpec rare = Job(1);
  rare.mutable_checkpoint()->set_every_epochs(100);
  const JobOutcome with = RunOnThreads(Job(1), Colocated(1));
  JobOutcome without = RunOnThreads(rare, Split(1, 1));
  EXPECT_FALSE(with.checkpoints.at(2).spare());
  EXPECT_TRUE(without.checkpoints.at(2).spare());
  without.checkpoints.at(2).clear_spare();
  ExpectSame(without, with, Split(1, 1));
}

TEST_F(SameBits, RewardsThatTrainersPutTogetherHaveTheSameBitsEverywhere) {
  const JobOutcome alone = ExpectSameEverywhere(
      JobWith("rewards:\n"
              "- {type: jpeg, measure: incompressibility, normalize: true}\n"
              "- {type: l1, weight: -2, warmup_epochs: 2, on_nan: drop}\n"
              "- {type: ssim, held_out: true}\n"
              "- {type: image_stat, measure: saturation, offset: 0.5, scale: 10, clamp: 1}\n"
              "advantage: {combine: per_reward}\n"));
  for (const char* part :
       {"jpeg.value", "l1.value", "l1.dropped", "ssim.value", "image_stat.value"}) {
    EXPECT_TRUE(nlohmann::json::parse(alone.rows[0])["parts_mean"].contains(part)) << part;
  }
}

TEST_F(SameBits, GroupsAndDivergencesHaveTheSameBitsEverywhere) {
  const JobOutcome alone = ExpectSameEverywhere(
      JobWith("rewards:\n"
              "- {type: jpeg, measure: incompressibility}\n"
              "- {type: kl_to_base, weight: -0.001}\n"
              "sample: {group_size: 4, same_init_noise: true}\n"
              "train: {trust_region: kl, kl_limit: 0.0001, kl_coef: 0.001}\n"
              "advantage: {mode: group, leave_one_out: true, std_of: global, zero_std: drop}\n"));
  const auto first = nlohmann::json::parse(alone.rows.front()),
             last = nlohmann::json::parse(alone.rows.back());
  EXPECT_TRUE(first.contains("zero_std_ratio"));
  EXPECT_EQ(first["kl_step_max"], 0.0) << "a replay repeats the rollout's means";
  EXPECT_EQ(first["masked_fraction"], 0.0);
  for (const char* number : {"kl_step_mean", "kl_step_max", "kl_to_base"}) {
    EXPECT_GT(last[number], 0.0) << number;
  }
  EXPECT_GT(last["parts_mean"]["kl_to_base.value"], 0.0);
}

TEST_F(SameBits, GroupsThatAreDrawnAgainAreTheSameEverywhere) {
  // A reward of -1 or 1, on either side of the mean: the two of a group often have the same.
  const auto first = nlohmann::json::parse(RunOnThreads(Job(0), Colocated(1)).rows.front());
  const std::string coarse = absl::StrCat(
      "rewards:\n- {type: jpeg, measure: incompressibility, scale: 1000000, clamp: 1, offset: ",
      first["parts_mean"]["jpeg.value"].get<double>(),
      "}\n"
      "sample: {group_size: 2}\n"
      "advantage: {mode: group, zero_std: resample, max_resamples: 3}\n"
      "guards: {zero_spread: {policy: \"off\"}}\n");
  const JobOutcome alone = ExpectSameEverywhere(JobWith(coarse));
  double resampled = 0;
  for (const std::string& row : alone.rows) {
    const double mean = nlohmann::json::parse(row)["parts_mean"]["group.resampled"];
    EXPECT_LE(mean, 3) << row;
    resampled += mean;
  }
  EXPECT_GT(resampled, 0);

  const v1::JobSpec single =
      JobWith(coarse +
              "train: {batch_size: 12, num_inner_epochs: 1, update: single_pass}\n"
              "topology: {colocated: 1}\n");
  const JobOutcome of_single = RunOnThreads(single, Colocated(1));
  ASSERT_EQ(of_single.rows.size(), static_cast<size_t>(kEpochs));
  ExpectSame(RunOnThreads(single, Colocated(3)), of_single, Colocated(3));
  EXPECT_EQ(nlohmann::json::parse(of_single.rows.front())["parts_mean"],
            nlohmann::json::parse(alone.rows.front())["parts_mean"])
      << "both sample the same";
}

TEST_F(SameBits, AShareOfTheStepsIsTheSameEverywhere) {
  const v1::JobSpec job = JobWith(
      "sample: {num_steps: 8}\n"
      "train: {step_fraction: 0.5, trust_region: kl, kl_limit: 0.0001, kl_coef: 0.001}\n");
  const JobOutcome alone = ExpectSameEverywhere(job);
  ExpectSame(RunOnThreads(job, Colocated(3)), alone, Colocated(3));
  const auto first = nlohmann::json::parse(alone.rows.front()),
             last = nlohmann::json::parse(alone.rows.back());
  EXPECT_EQ(first["ratio_first_step_max_error"], 0.0);
  EXPECT_EQ(first["kl_step_max"], 0.0) << "a replay repeats the rollout's means";
  EXPECT_GT(last["kl_to_base"], 0.0);
}

TEST_F(SameBits, AMovingWindowOfRandomStepsIsTheSameEverywhere) {
  const v1::JobSpec job =
      JobWith("sample: {num_steps: 8, sde_window: {size: 2, stride: 1, every_epochs: 2}}\n");
  const JobOutcome alone = ExpectSameEverywhere(job);
  ExpectSame(RunOnThreads(job, Split(1, 1)), alone, Split(1, 1));
  for (const std::string& row : alone.rows) {
    EXPECT_EQ(nlohmann::json::parse(row)["ratio_first_step_max_error"], 0.0) << row;
  }
}

TEST_F(SameBits, SupervisedTrainingIsTheSameEverywhere) {
  const v1::JobSpec job = JobWith(
      "data: {corrupt: {kind: gaussian_noise, severity: 3}}\n"
      "train: {objective: sft}\n");
  const JobOutcome alone = ExpectSameEverywhere(job);
  ExpectSame(RunOnThreads(job, Colocated(3)), alone, Colocated(3));
  for (const std::string& row : alone.rows) {
    const auto numbers = nlohmann::json::parse(row);
    EXPECT_GT(numbers["sft_loss"], 0.0) << row;
    EXPECT_EQ(numbers["loss"], numbers["sft_loss"]) << row;
    EXPECT_GT(numbers["grad_norm"], 0.0) << row;
  }
  EXPECT_NE(alone.evaluations.at(0), alone.evaluations.at(kEpochs)) << "the LoRA has changed";
}

TEST_F(SameBits, TheAverageIsEvaluatedWithTheSameBitsEverywhere) {
  const std::string train =
      "train: {ema_decay: 0.99, lr_schedule: cosine, lr_warmup_updates: 3, clip_range_high: 0.01, "
      "max_grad_zscore: 4}\ncheckpoint: {best: reward}\n";
  const JobOutcome average = ExpectSameEverywhere(JobWith(train + "eval: {use_ema: true}\n")),
                   newest = RunOnThreads(JobWith(train), Colocated(1));
  EXPECT_EQ(average.rows, newest.rows) << "it changes nothing of the training";
  EXPECT_EQ(average.evaluations.at(0), newest.evaluations.at(0)) << "it starts from the LoRA";
  EXPECT_NE(average.evaluations.at(kEpochs), newest.evaluations.at(kEpochs));
  EXPECT_FALSE(average.checkpoints.at(kEpochs).ema_lora().empty());
  EXPECT_EQ(average.best_loras.at(kEpochs), average.checkpoints.at(kEpochs).ema_lora())
      << "the LoRA that was evaluated";
  EXPECT_EQ(newest.best_loras.at(kEpochs), newest.checkpoints.at(kEpochs).lora());
}

TEST_F(SameBits, RowsTellHowOldTheSamplesWere) {
  const JobOutcome fresh = RunOnThreads(Job(0), Split(1, 1)),
                   stale = RunOnThreads(Job(2), Split(1, 1));
  EXPECT_TRUE(fresh.ages.empty());
  EXPECT_EQ(fresh.rows[0].find("sample_age"), std::string::npos);
  ASSERT_EQ(stale.ages.size(), static_cast<size_t>(kEpochs));
  const auto strip = [](const std::string& row) {
    auto json = nlohmann::ordered_json::parse(row);
    for (const char* key : {"sample_age", "behaviour_ratio_mean", "behaviour_ratio_std"}) {
      json.erase(key);
    }
    return json.dump();
  };
  // Epoch 0 is sampled with the version that it is trained from, whatever is allowed.
  for (size_t row = 0; row < kRowsPerEpoch; ++row)
    EXPECT_EQ(strip(stale.rows[row]), fresh.rows[row]);
  EXPECT_NE(strip(stale.rows[kRowsPerEpoch]), fresh.rows[kRowsPerEpoch]);

  const int64_t ages[] = {0, 1, 2, 2};
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const v1::EpochMetrics& staleness = stale.ages.at(epoch);
    EXPECT_EQ(staleness.sample_age(), ages[epoch]);
    EXPECT_NEAR(staleness.behaviour_ratio_mean(), 1, 0.2);
    EXPECT_NEAR(staleness.proximal_ratio_mean(), 1, 0.2);
    EXPECT_GT(staleness.proximal_ratio_std(),
              0);  // The second update moves from the first's start.
    if (epoch == 0) {
      EXPECT_EQ(staleness.behaviour_ratio_mean(), 1);
      EXPECT_EQ(staleness.behaviour_ratio_std(), 0);
    } else {
      EXPECT_GT(staleness.behaviour_ratio_std(), 0);
    }
    const auto first =
        nlohmann::json::parse(stale.rows[static_cast<size_t>(epoch) * kRowsPerEpoch]);
    EXPECT_EQ(first["proximal_ratio_mean"], 1.0) << "nothing has been updated yet";
    EXPECT_EQ(first["proximal_ratio_std"], 0.0);
  }
}

TEST_F(SameBits, ACheckpointWithoutTheOlderVersionsIsRefused) {
  const v1::JobSpec fresh = Job(0);
  const JobOutcome whole = RunOnThreads(fresh, Colocated(1));
  v1::StartJob start;
  start.set_job_id("job-1");
  *start.mutable_spec() = Job(1);
  *start.mutable_gang() = MakeGangLayout(Colocated(1), {0}, "tag");
  *start.mutable_resume_from() = whole.checkpoints.at(2);
  const auto gang = MakeSoloCommunicator();
  const auto logger = *MakeLogger({.level = "error"});
  const SystemClock clock;
  const StopToken stop;
  JobContext context{.start = start,
                     .gang_rank = 0,
                     .gang = *gang,
                     .device = at::kCPU,
                     .clock = clock,
                     .logger = logger,
                     .stop = stop,
                     .report = [](const v1::WorkerMessage&) {}};
  const absl::Status status = RunJob(context);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("lora.1"), std::string::npos) << status;
}

}  // namespace
}  // namespace imageddpo
