// The guards on learning: over the curves of tests/data/learning, over updates, through a trainer
// and through the leader of a gang.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/testing/judged.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/trainer_fixture.h"
#include "trainer/guards/learning_guards.h"
#include "trainer/loop/update_guards.h"

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

TEST(Firing, ItsPolicyDecidesAndRollbacksEnd) {
  const Firing firing{.guard = Guard::kApproxKl, .epoch = 4, .good_epochs = 4, .what = "seen"};
  GuardsSettings settings;
  settings.approx_kl.policy = GuardPolicy::kWarn;
  EXPECT_TRUE(ActionStatus(firing, settings).ok());
  settings.approx_kl.policy = GuardPolicy::kRollback;
  EXPECT_EQ(RollsBackTo(ActionStatus(firing, settings)), 4);
  EXPECT_EQ(ReportOf(firing, settings, "job-1").guard().action(), "rollback");
  settings.rollbacks = settings.max_rollbacks = 3;
  EXPECT_EQ(RollsBackTo(ActionStatus(firing, settings)), std::nullopt);
  EXPECT_EQ(PausesJobFor(ActionStatus(firing, settings)), "");
  EXPECT_THAT(MessageOf(firing, settings), HasSubstr("guard approx_kl, epoch 5: seen; the job is "
                                                     "paused, since it was taken back 3 times"));
  settings.approx_kl.policy = GuardPolicy::kFail;
  EXPECT_EQ(PausesJobFor(ActionStatus(firing, settings)), std::nullopt);
  EXPECT_TRUE(absl::IsOutOfRange(ActionStatus(firing, settings)));
}

TEST(UpdateGuards, ASpikeIsTakenWithAWarningAndNotTakenOtherwise) {
  for (const GuardPolicy policy : {GuardPolicy::kWarn, GuardPolicy::kRollback}) {
    GuardsSettings settings;
    settings.gradient_spike = {.policy = policy, .threshold = 10};
    UpdateGuards guards(settings);
    for (int64_t update = 0; update < 20; ++update) {
      EXPECT_TRUE(guards.Accepts(1 + 0.1 * static_cast<double>(update % 3)));
      EXPECT_TRUE(guards.EndUpdate(update, update).ok());
    }
    EXPECT_THAT(guards.TakeFirings(), IsEmpty());
    EXPECT_EQ(guards.Accepts(50), policy == GuardPolicy::kWarn);
    const absl::Status status = guards.EndUpdate(20, 20);
    EXPECT_EQ(status.ok(), policy == GuardPolicy::kWarn);
    if (!status.ok()) {
      EXPECT_EQ(RollsBackTo(status), 20);
    }
    EXPECT_THAT(Told(guards.TakeFirings()), ElementsAre("gradient_spike at 20, back to 20"));
  }
}

TEST(UpdateGuards, SkipAtMostSixteenInARow) {
  GuardsSettings settings;
  settings.non_finite = GuardPolicy::kSkip;
  UpdateGuards guards(settings);
  for (int64_t i = 0; i < UpdateGuards::kMostInARow; ++i) EXPECT_TRUE(guards.NotFinite(0, i).ok());
  EXPECT_THAT(guards.TakeFirings(), testing::SizeIs(1)) << "of an epoch the first is told";
  UpdateGuards resumed(settings);
  resumed.Restore(nlohmann::json::parse(guards.ToJson().dump()));
  EXPECT_EQ(resumed.skipped(), UpdateGuards::kMostInARow);
  const absl::Status status = resumed.NotFinite(1, 16);
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the job fails"));
  EXPECT_TRUE(guards.Accepts(1));
  EXPECT_TRUE(guards.NotFinite(2, 18).ok()) << "a good one in between";
}

using TrainerGuardsTest = TrainerTest;

TEST_F(TrainerGuardsTest, AnUpdateThatIsNotFiniteIsSkippedOnAllRanks) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->set_non_finite("skip");
  Epochs epochs = {SampleEpoch(model(), job, 0, 0)};
  at::Tensor& latents = epochs[0][1].latents;
  latents = latents.clone();
  latents.select(1, 0).fill_(std::numeric_limits<float>::quiet_NaN());
  const at::Tensor before_P = model().lora.Flatten();
  for (const Outcome& outcome : Train(2, job, epochs)) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.rows.size(), 1U);
    EXPECT_TRUE(outcome.rows[0].skipped());
    EXPECT_EQ(outcome.rows[0].skipped_updates(), 1);
    EXPECT_EQ(outcome.rows[0].grad_norm(), 0);
    EXPECT_TRUE(outcome.lora_P.equal(before_P));
  }
}

/// Trains three epochs whose rewards are all equal; the status after each.
std::vector<absl::Status> TrainWithEqualRewards(SmallGang* gang) {
  std::vector<absl::Status> statuses;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<TrajectoryBatch> batches = gang->Sample(epoch, epoch);
    for (TrajectoryBatch& batch : batches) batch.rewards_B = at::ones_like(batch.rewards_B);
    gang->rollout.Send(batches);
    const absl::Status trained = gang->leader.rank->TrainEpoch(epoch);
    EXPECT_TRUE(trained.ok()) << trained;
    statuses.push_back(gang->leader.rank->SendCheckpoint());
    gang->rollout.Flush();
  }
  return statuses;
}

TEST(TrainerRankGuards, APauseComesAfterTheState) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->mutable_zero_spread()->set_policy("pause");
  SmallGang gang(job);
  const std::vector<absl::Status> statuses = TrainWithEqualRewards(&gang);
  EXPECT_TRUE(statuses[1].ok()) << statuses[1];
  EXPECT_EQ(PausesJobFor(statuses[2]), "");
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kGuard), 1);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kCheckpoint), 3);
  const v1::Checkpoint& last = gang.leader.reports.back().checkpoint();
  const auto state = nlohmann::json::parse(last.state());
  EXPECT_EQ(state.at("guards").at("active"), nlohmann::json::parse("[\"zero_spread\"]"))
      << "so that it does not pause again when it is resumed";
  SmallGang resumed(job);
  EXPECT_TRUE(resumed.leader.rank->Restore(state).ok());
}

TEST(TrainerRankGuards, ARollbackSendsNoState) {
  v1::JobSpec job = SmallJob();
  job.mutable_guards()->mutable_zero_spread()->set_policy("rollback");
  SmallGang gang(job);
  const std::vector<absl::Status> statuses = TrainWithEqualRewards(&gang);
  EXPECT_EQ(RollsBackTo(statuses[2]), 0);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kCheckpoint), 2);
  EXPECT_EQ(gang.leader.Count(v1::WorkerMessage::kGuard), 1);
}

}  // namespace
}  // namespace imageddpo
