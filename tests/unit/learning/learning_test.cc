// Curves of each kind in tests/data/learning, written by make_curves.py there.

#include "common/learning/learning.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

v1::JobSpec Spec() {
  v1::JobSpec spec;
  spec.add_rewards()->set_type("classifier");
  spec.mutable_train()->set_batch_size(32);
  spec.mutable_train()->set_gradient_accumulation_steps(1);
  spec.mutable_train()->set_num_inner_epochs(1);
  return spec;
}

/// The curve of a file, of a job with one reward.
JobHistory Curve(const std::string& name) {
  std::ifstream file(std::string(std::getenv("IMAGEDDPO_SOURCE_DIR")) + "/tests/data/learning/" +
                     name + ".jsonl");
  EXPECT_TRUE(file) << name;
  JobHistory history{.spec = Spec(), .epochs = {}, .evaluations = {}};
  for (std::string line; std::getline(file, line);) {
    v1::EpochMetrics& epoch = history.epochs.emplace_back();
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &epoch).ok()) << line;
  }
  return history;
}

v1::EvalEvent Evaluation(int64_t epoch, double reward, double error) {
  v1::EvalEvent eval;
  eval.set_epoch(epoch);
  eval.set_num_images(100);
  eval.set_reward_mean(reward);
  eval.set_reward_stderr(error);
  return eval;
}

v1::RewardSpec* AddHeldOut(const std::string& type, const std::string& name, JobHistory* history) {
  v1::RewardSpec* const reward = history->spec.add_rewards();
  reward->set_type(type);
  reward->set_name(name);
  reward->set_held_out(true);
  return reward;
}

TEST(JudgeLearning, SeesACurveThatRises) {
  for (const char* name : {"learning", "short"}) {
    const LearningVerdict verdict = JudgeLearning(Curve(name));
    EXPECT_EQ(verdict.learning, Learning::kLearning) << name;
    EXPECT_EQ(verdict.name(), "learning");
    EXPECT_THAT(verdict.why, HasSubstr("reward 0."));
    EXPECT_THAT(verdict.rule, HasSubstr("3 standard errors"));
  }
}

TEST(JudgeLearning, TakesTheFallOfALossWhereThereAreNoRewards) {
  JobHistory history = Curve("learning");
  for (v1::EpochMetrics& epoch : history.epochs) {
    epoch.set_sft_loss(10 - epoch.reward_mean());
    epoch.set_reward_mean(0);
    epoch.set_reward_std(0);
  }
  const LearningVerdict verdict = JudgeLearning(history);
  EXPECT_EQ(verdict.learning, Learning::kLearning) << verdict.why;
  EXPECT_THAT(verdict.why, HasSubstr("-sft_loss -"));
  for (v1::EpochMetrics& epoch : history.epochs) epoch.set_sft_loss(1);
  const LearningVerdict flat = JudgeLearning(history);
  EXPECT_EQ(flat.learning, Learning::kFlat) << flat.why;
  EXPECT_THAT(flat.why, HasSubstr("compare the evaluations"));
}

TEST(JudgeLearning, WaitsForEnoughEpochs) {
  const LearningVerdict verdict = JudgeLearning(Curve("early"));
  EXPECT_EQ(verdict.name(), "too early");
  EXPECT_EQ(verdict.why, "6 of at least 8 epochs");
  EXPECT_EQ(JudgeLearning(JobHistory()).name(), "too early");
}

TEST(JudgeLearning, SaysWhyACurveIsFlat) {
  const std::pair<const char*, const char*> cases[] = {
      {"noise", "no cause shows"},
      {"small_steps", "learning rate 1e-07, 0.0% of the ratios clipped"},
      {"all_clipped", "% of the ratios are clipped"},
      {"equal_rewards", "all rewards of an epoch are equal"},
      {"equal_groups", "of the groups all rewards are equal"},
  };
  for (const auto& [name, why] : cases) {
    const LearningVerdict verdict = JudgeLearning(Curve(name));
    EXPECT_EQ(verdict.name(), "flat") << name;
    EXPECT_THAT(verdict.why, HasSubstr(why)) << name;
  }
}

TEST(JudgeLearning, SeesThatUpdatesAreSkipped) {
  JobHistory history = Curve("noise");  // 80 epochs of 4 updates.
  history.epochs.back().set_skipped_updates(160);
  EXPECT_THAT(JudgeLearning(history).why, HasSubstr("no cause shows"));  // Half, not more.
  history.epochs.back().set_skipped_updates(161);
  EXPECT_THAT(JudgeLearning(history).why, HasSubstr("161 updates were skipped"));
}

TEST(JudgeLearning, FindsTheEpochOfACollapse) {
  const LearningVerdict verdict = JudgeLearning(Curve("collapsed"));
  EXPECT_EQ(verdict.learning, Learning::kCollapsed);
  EXPECT_NEAR(static_cast<double>(verdict.collapse_epoch), 49, 3);  // It falls in epochs 46 to 53.
  EXPECT_EQ(verdict.name(), "collapsed at epoch " + std::to_string(verdict.collapse_epoch));
  // One that only falls.
  EXPECT_EQ(JudgeLearning(Curve("fell")).learning, Learning::kCollapsed);
}

TEST(JudgeLearning, SeesNumbersThatAreNone) {
  JobHistory history = Curve("early");
  history.epochs[3].set_loss(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(JudgeLearning(history).name(), "collapsed at epoch 4");
  history.epochs[2].set_reward_mean(INFINITY);
  EXPECT_EQ(JudgeLearning(history).name(), "collapsed at epoch 3");
}

TEST(JudgeLearning, SuspectsHackingWhereAHeldOutRewardGetsWorse) {
  JobHistory history = Curve("hacking");
  EXPECT_EQ(JudgeLearning(history).name(), "learning");  // Nobody has asked for that number.
  v1::RewardSpec* const held_out = AddHeldOut("torchscript", "likeness", &history);
  const LearningVerdict verdict = JudgeLearning(history);
  EXPECT_EQ(verdict.name(), "hacking suspected");
  EXPECT_THAT(verdict.why, HasSubstr("but worse: likeness.value 0."));
  held_out->set_weight(-1);  // Less is better.
  EXPECT_EQ(JudgeLearning(history).name(), "learning");
  held_out->set_type("l1");  // A distance: less is better as well.
  held_out->set_reference("target");
  held_out->set_weight(1);
  EXPECT_EQ(JudgeLearning(history).name(), "learning");
  held_out->set_scale(-1);
  EXPECT_EQ(JudgeLearning(history).name(), "hacking suspected");
}

TEST(JudgeLearning, SuspectsHackingWhereEvaluationsGetWorse) {
  JobHistory history = Curve("learning");
  history.evaluations = {Evaluation(0, 0.5, 0.03), Evaluation(80, 0.45, 0.04)};
  EXPECT_EQ(JudgeLearning(history).name(), "learning");  // By one standard error.
  history.evaluations.back().set_reward_mean(0.39);      // By 2.2.
  const LearningVerdict verdict = JudgeLearning(history);
  EXPECT_EQ(verdict.name(), "hacking suspected");
  EXPECT_THAT(verdict.why, HasSubstr("the reward of the evaluations 0.5 → 0.39, 2.2 standard"));
}

TEST(JudgeLearning, ExpectsImagesToMoveAwayFromTheirInputs) {
  JobHistory history = Curve("learning");
  AddHeldOut("psnr", "input_psnr", &history);
  history.evaluations = {Evaluation(0, 0, 0.1), Evaluation(80, 1, 0.1)};
  const auto psnr = [&history](size_t i, double mean) {
    (*history.evaluations[i].mutable_parts_mean())["input_psnr.value"] = mean;
    (*history.evaluations[i].mutable_parts_stderr())["input_psnr.value"] = 0.1;
  };
  psnr(0, 24);
  psnr(1, 16);
  EXPECT_EQ(JudgeLearning(history).name(), "learning");
  psnr(1, 11);  // By more than half.
  EXPECT_EQ(JudgeLearning(history).name(), "hacking suspected");
}

TEST(RewardCurve, IsOfTheValuesWhereTheSumChangesItsScale) {
  JobHistory history;
  v1::RewardSpec* const reward = history.spec.add_rewards();
  reward->set_type("jpeg");
  reward->set_weight(0.5);
  AddHeldOut("ssim", "ssim", &history);
  history.epochs.resize(1);
  history.epochs[0].set_reward_mean(7);
  (*history.epochs[0].mutable_parts_mean())["jpeg.value"] = -4;
  (*history.epochs[0].mutable_parts_mean())["ssim.value"] = 1;
  EXPECT_THAT(RewardCurve(history), testing::ElementsAre(7));
  reward->set_warmup_epochs(3);
  EXPECT_THAT(RewardCurve(history), testing::ElementsAre(-2));
}

TEST(HistoryOf, TakesTheNewestTellingOfAnEpoch) {
  v1::Job job;
  job.mutable_spec()->set_name("deblur");
  std::vector<v1::JobEvent> events(5);
  events[0].mutable_epoch()->set_epoch(0);
  events[1].mutable_epoch()->set_epoch(1);
  *events[2].mutable_eval() = Evaluation(0, 1, 0);
  events[3].mutable_epoch()->set_epoch(1);
  events[3].mutable_epoch()->set_reward_mean(3);
  events[4].mutable_warning();
  const JobHistory history = HistoryOf(job, events);
  EXPECT_EQ(history.spec.name(), "deblur");
  ASSERT_EQ(history.epochs.size(), 2U);
  EXPECT_EQ(history.epochs[1].reward_mean(), 3);
  EXPECT_EQ(history.evaluations.size(), 1U);
}

}  // namespace
}  // namespace imageddpo
