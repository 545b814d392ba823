// The guards on whole epochs over the curves of tests/data/learning, written by make_curves.py
// there.
#include "trainer/guards/learning_guards.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A job with the rewards that the curves have parts of.
ResolvedJob CurveJob() {
  v1::JobSpec spec = Runnable({});
  v1::RewardSpec* const likeness = spec.add_rewards();
  likeness->set_type("jpeg");
  likeness->set_measure("incompressibility");
  likeness->set_name("likeness");
  likeness->set_held_out(true);
  return Judged(spec);
}

std::vector<v1::EpochMetrics> Curve(const std::string& name) {
  std::ifstream file(std::string(std::getenv("IMAGEDDPO_SOURCE_DIR")) + "/tests/data/learning/" +
                     name + ".jsonl");
  EXPECT_TRUE(file) << name;
  std::vector<v1::EpochMetrics> epochs;
  for (std::string line; std::getline(file, line);) {
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &epochs.emplace_back()).ok());
  }
  return epochs;
}

/// "reward_collapse at 50, back to 45": epochs from 0.
std::vector<std::string> Told(const std::vector<Firing>& firings) {
  std::vector<std::string> told;
  for (const Firing& firing : firings) {
    told.push_back(absl::StrCat(GuardName(firing.guard), " at ", firing.epoch, ", back to ",
                                firing.good_epochs));
  }
  return told;
}

std::vector<std::string> TellAll(LearningGuards* guards,
                                 const std::vector<v1::EpochMetrics>& epochs) {
  std::vector<std::string> told;
  for (const v1::EpochMetrics& epoch : epochs) {
    for (std::string& text : Told(guards->Judge(epoch))) told.push_back(std::move(text));
  }
  return told;
}

TEST(LearningGuards, AreSilentWhereACurveHasNoSuchFault) {
  for (const char* name : {"learning", "short", "early", "noise", "small_steps", "all_clipped"}) {
    LearningGuards guards(CurveJob());
    EXPECT_THAT(TellAll(&guards, Curve(name)), IsEmpty()) << name;
  }
}

TEST(LearningGuards, TellEachFaultOnceWhenItShows) {
  const auto told = [](const char* name) {
    LearningGuards guards(CurveJob());
    return TellAll(&guards, Curve(name));
  };
  EXPECT_THAT(told("collapsed"), ElementsAre("reward_collapse at 50, back to 45"));
  EXPECT_THAT(told("fell"), ElementsAre("reward_collapse at 15, back to 4"));
  EXPECT_THAT(told("equal_rewards"), ElementsAre("zero_spread at 2, back to 0"));
  EXPECT_THAT(told("equal_groups"), ElementsAre("zero_spread at 2, back to 0"));
  EXPECT_THAT(told("hacking"), ElementsAre("held_out at 15, back to 12"));
}

/// Nothing is rewarded there: what falls is minus the loss.
TEST(LearningGuards, JudgeSupervisedJobsByTheirLoss) {
  v1::JobSpec spec = CurveJob().submitted();
  spec.mutable_train()->set_objective("sft");
  const ResolvedJob job = Judged(spec);
  LearningGuards silent(job);
  EXPECT_THAT(TellAll(&silent, Curve("sft_learning")), IsEmpty());

  const std::vector<v1::EpochMetrics> epochs = Curve("sft_collapsed");
  LearningGuards through(job), first(job), resumed(job);
  EXPECT_THAT(TellAll(&through, epochs), ElementsAre("reward_collapse at 45, back to 40"));
  const auto middle = epochs.begin() + 43;
  EXPECT_THAT(TellAll(&first, {epochs.begin(), middle}), IsEmpty());
  const absl::Status restored = resumed.Restore(nlohmann::json::parse(first.ToJson().dump()));
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_THAT(TellAll(&resumed, {middle, epochs.end()}),
              ElementsAre("reward_collapse at 45, back to 40"));
  EXPECT_EQ(resumed.ToJson().dump(), through.ToJson().dump());
}

TEST(LearningGuards, AreTheSameAfterAResume) {
  const std::vector<v1::EpochMetrics> epochs = Curve("hacking");
  const auto middle = epochs.begin() + 14;
  v1::EvalReport evaluation;
  evaluation.set_reward_mean(0.1);
  evaluation.set_reward_stderr(0.3);
  (*evaluation.mutable_parts_mean())["likeness.value"] = 0.7;
  (*evaluation.mutable_parts_stderr())["likeness.value"] = 0.1;
  LearningGuards through(CurveJob()), first(CurveJob()), resumed(CurveJob());
  for (LearningGuards* guards : {&through, &first}) {
    guards->OnEvaluation(evaluation);
    EXPECT_THAT(TellAll(guards, {epochs.begin(), middle}), IsEmpty());
  }
  const absl::Status restored = resumed.Restore(nlohmann::json::parse(first.ToJson().dump()));
  ASSERT_TRUE(restored.ok()) << restored;
  resumed.OnEvaluation(evaluation);  // Repeated after a resume: it counts once.
  const std::vector<v1::EpochMetrics> rest(middle, epochs.end());
  EXPECT_EQ(TellAll(&resumed, rest), TellAll(&through, rest));
  EXPECT_EQ(resumed.ToJson().dump(), through.ToJson().dump());
  EXPECT_TRUE(absl::IsInvalidArgument(resumed.Restore(nlohmann::json::parse("{\"epochs\": 1}"))));
}

TEST(LearningGuards, SeeThatImagesChangeByMoreThanTheThreshold) {
  v1::JobSpec spec = Runnable({});
  v1::RewardSpec* const brightness = spec.add_rewards();
  brightness->set_type("image_stat");
  brightness->set_measure("brightness");
  brightness->set_name("light");
  brightness->set_held_out(true);
  LearningGuards guards(Judged(spec));
  std::vector<std::string> told;
  for (int64_t i = 0; i < 60; ++i) {
    v1::EpochMetrics epoch;
    epoch.set_epoch(i);
    epoch.set_reward_mean(0.1 * static_cast<double>(i % 2));
    epoch.set_reward_std(1);
    (*epoch.mutable_parts_mean())["light.value"] =
        0.4 + (i < 30 ? 0 : 0.3) + 0.001 * static_cast<double>(i % 3);
    for (const Firing& firing : guards.Judge(epoch)) {
      told.push_back(GuardName(firing.guard));
      EXPECT_THAT(firing.what, HasSubstr("light.value has changed from 0.4"));
      EXPECT_GE(firing.epoch, 30);
    }
  }
  EXPECT_THAT(told, ElementsAre("image_statistics"));
}

TEST(LearningGuards, KnowTwoCeilingsOfDivergence) {
  v1::JobSpec spec = Runnable({});
  v1::RewardSpec* const kl = spec.add_rewards();
  kl->set_type("kl_to_base");
  kl->set_held_out(true);
  spec.mutable_guards()->mutable_kl_to_base()->set_threshold(2);
  LearningGuards guards(Judged(spec));
  v1::EpochMetrics epoch;
  epoch.set_epoch(7);
  epoch.set_reward_std(1);
  epoch.set_approx_kl(0.2);
  (*epoch.mutable_parts_mean())["kl_to_base.value"] = 3;
  EXPECT_THAT(Told(guards.Judge(epoch)),
              ElementsAre("approx_kl at 7, back to 7", "kl_to_base at 7, back to 7"));
  epoch.set_epoch(8);
  EXPECT_THAT(guards.Judge(epoch), IsEmpty()) << "they have spoken";
  epoch.set_approx_kl(0);
  EXPECT_THAT(guards.Judge(epoch), IsEmpty());
  epoch.set_approx_kl(0.2);
  EXPECT_THAT(Told(guards.Judge(epoch)), ElementsAre("approx_kl at 8, back to 8"));
}

}  // namespace
}  // namespace imageddpo
