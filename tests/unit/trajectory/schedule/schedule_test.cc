#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "common/trajectory/schedule/step_schedule.h"
#include "common/trajectory/schedule/update_schedule.h"
#include "common/trajectory/schedule/version_schedule.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

v1::JobSpec Job(const std::string& text) {
  v1::JobSpec job = *ParseJobYaml(text, "job.yaml");
  job = Judged(job).spec();
  return job;
}

VersionSchedule Versions(int64_t num_epochs, int64_t staleness, int64_t eval_every = -1) {
  v1::JobSpec job = Job("name: a");
  job.set_num_epochs(num_epochs);
  job.mutable_sample()->set_max_staleness(staleness);
  if (eval_every >= 0) {
    job.mutable_eval()->set_path("held-out");
    job.mutable_eval()->set_every_epochs(eval_every);
  }
  return VersionSchedule(job);
}

TEST(VersionSchedule, EveryEpochIsSampledOnceByTheVersionThatIsSaid) {
  for (int64_t epochs = 1; epochs <= 6; ++epochs) {
    for (int64_t staleness = 0; staleness <= 4; ++staleness) {
      const VersionSchedule versions = Versions(epochs, staleness);
      std::map<int64_t, int64_t> sampled_by;
      for (int64_t v = 0; v <= epochs; ++v) {
        const auto [begin, end] = versions.EpochsOf(v);
        EXPECT_EQ(versions.IsPublished(v), begin < end);
        for (int64_t epoch = begin; epoch < end; ++epoch) {
          EXPECT_TRUE(sampled_by.emplace(epoch, v).second) << "epoch " << epoch << " twice";
        }
      }
      ASSERT_EQ(static_cast<int64_t>(sampled_by.size()), epochs);
      for (const auto& [epoch, version] : sampled_by) {
        EXPECT_EQ(version, versions.SamplingVersion(epoch));
        EXPECT_EQ(version, std::max<int64_t>(0, epoch - staleness));
      }
    }
  }
}

TEST(VersionSchedule, VersionsThatOnlyAnEvaluationNeedsArePublishedToo) {
  const VersionSchedule without = Versions(10, 2);
  EXPECT_TRUE(without.IsPublished(7));
  EXPECT_FALSE(without.IsPublished(8));
  EXPECT_FALSE(without.IsPublished(10));
  const VersionSchedule with = Versions(10, 2, 4);
  EXPECT_TRUE(with.EvaluationDue(0));
  EXPECT_TRUE(with.EvaluationDue(8));
  EXPECT_TRUE(with.IsPublished(8));
  EXPECT_FALSE(with.IsPublished(9));
  EXPECT_TRUE(with.IsPublished(10));
  EXPECT_FALSE(Versions(10, 2, 0).EvaluationDue(8));
  EXPECT_TRUE(Versions(10, 2, 0).EvaluationDue(10));
}

TEST(VersionSchedule, CheckpointsAreDueAfterTheFirstEpochTheLastAndEverySoOften) {
  const VersionSchedule versions = Versions(25, 0);  // every_epochs: 10
  std::set<int64_t> due;
  for (int64_t epochs = 1; epochs <= 25; ++epochs) {
    if (versions.CheckpointDue(epochs)) due.insert(epochs);
  }
  EXPECT_EQ(due, (std::set<int64_t>{1, 10, 20, 25}));
}

TEST(UpdateSchedule, WhatTheFirstUpdateDoesNotReplayIsReplayedLater) {
  const v1::JobSpec job =
      Job("sample: {batch_size: 24, num_batches_per_epoch: 1}\ntrain: {batch_size: 12, "
          "num_inner_epochs: 2}\n"
          "device: {device_batch_size: 2}");
  const JobPlan plan = Judged(job).plan();
  for (const int trainers : {1, 2, 3, 5}) {
    const UpdateSchedule schedule(plan, 7, 2, trainers);
    const auto needed = schedule.LatentsNeeded(3);
    for (int trainer = 0; trainer < trainers; ++trainer) {
      const auto later = schedule.ReplayedAfterFirstUpdate(3, trainer);
      EXPECT_TRUE(std::is_sorted(later.begin(), later.end()));
      for (const int64_t m : later) EXPECT_TRUE(needed[trainer][m]);
    }
  }
  const UpdateSchedule once(plan, 7, 1, 1);
  std::vector<int64_t> all = once.MicroBatches(3, 0, 0);
  const std::vector<int64_t> later = once.ReplayedAfterFirstUpdate(3, 0);
  EXPECT_EQ(later, once.MicroBatches(3, 0, 1));
  all.insert(all.end(), later.begin(), later.end());
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 24U / 2);
}

StepSchedule Steps(const std::string& settings) {
  const ResolvedJob job = Judged(Job("seed: 5\n" + settings));
  return {job.steps(), job.spec().seed()};
}

using Positions = std::vector<int64_t>;

// 10 steps of which int(10 · 0.5) = 5 are executed.
TEST(StepSchedule, WithoutSettingsAllStepsAreRandomAndTrained) {
  const EpochSteps steps = Steps("sample: {num_steps: 10, noise_strength: 0.5}").Of(3, 8);
  EXPECT_EQ(steps.trained, (Positions{0, 1, 2, 3, 4}));
  for (int64_t k = 0; k < 5; ++k) EXPECT_TRUE(steps.is_random(k)) << k;
}

TEST(StepSchedule, AWindowStaysOrMovesOnAndBeginsAgain) {
  const std::string sample = "sample: {num_steps: 10, noise_strength: 0.5";
  const StepSchedule fixed = Steps(sample + "}\ntrain: {step_window: {size: 2, start: 1}}");
  for (const int64_t epoch : {0, 1, 7}) {
    const EpochSteps steps = fixed.Of(epoch, 4);
    EXPECT_EQ(steps.trained, (Positions{1, 2}));
    EXPECT_TRUE(steps.is_random(0) && steps.is_random(4)) << "the others draw noise all the same";
  }
  const StepSchedule moving =
      Steps(sample + ", sde_window: {size: 2, start: 1, stride: 2, every_epochs: 3}}");
  // Four places, 0 to 3: 1, 3, then 5 mod 4.
  const int64_t begins[] = {1, 1, 1, 3, 3, 3, 1, 1, 1, 3};
  for (int64_t epoch = 0; epoch < 10; ++epoch) {
    const EpochSteps steps = moving.Of(epoch, 0);
    const int64_t begin = begins[epoch];
    EXPECT_EQ(steps.trained, (Positions{begin, begin + 1})) << epoch;
    for (int64_t k = 0; k < 5; ++k) {
      EXPECT_EQ(steps.is_random(k), k == begin || k == begin + 1) << epoch << ", step " << k;
    }
  }
}

TEST(StepSchedule, AShareIsDrawnForEachMicroBatchAndEpochFromTheWindow) {
  const StepSchedule all =
      Steps("sample: {num_steps: 10, noise_strength: 0.5}\ntrain: {step_fraction: 0.4}");
  std::set<Positions> drawn;
  std::map<int64_t, int> counts;
  for (int64_t epoch = 0; epoch < 40; ++epoch) {
    for (const int64_t sample : {0, 8}) {
      const Positions steps = all.Of(epoch, sample).trained;
      ASSERT_EQ(steps.size(), 2U);
      EXPECT_LT(steps[0], steps[1]);
      EXPECT_EQ(all.Of(epoch, sample).trained, steps) << "the same key, the same steps";
      drawn.insert(steps);
      for (const int64_t k : steps) ++counts[k];
    }
  }
  EXPECT_GE(drawn.size(), 8U) << "of ten pairs";
  ASSERT_EQ(counts.size(), 5U);
  for (const auto& [k, count] : counts) EXPECT_NEAR(count, 32, 20) << k;  // σ is 4.4.

  const StepSchedule window = Steps(
      "sample: {num_steps: 10, noise_strength: 0.5}\n"
      "train: {step_fraction: 0.5, step_window: {size: 2, start: 3}}");
  for (int64_t epoch = 0; epoch < 8; ++epoch) {
    const Positions steps = window.Of(epoch, 0).trained;
    ASSERT_EQ(steps.size(), 1U);
    EXPECT_TRUE(steps[0] == 3 || steps[0] == 4) << steps[0];
  }
}

}  // namespace
}  // namespace imageddpo
