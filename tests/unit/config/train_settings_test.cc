// Settings of how a job learns that only go together, or not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/config/good_job.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ValidateJob, GroupsGoWithEachUpdateAndWithEachReward) {
  const std::vector<std::string> groups = {"sample.group_size=4",     "advantage.mode=group",
                                           "advantage.zero_std=drop", "train.batch_size=32",
                                           "topology={colocated: 1}", "train.update=single_pass"};
  EXPECT_TRUE(Judge(groups).ok()) << Judge(groups);
  const std::vector<std::string> unscaled = {"sample.group_size=4", "advantage.mode=group",
                                             "advantage.std_of=none"};
  EXPECT_TRUE(Judge(unscaled).ok()) << Judge(unscaled);
  EXPECT_THAT(Refusal({"sample.group_size=4", "advantage.mode=group", "advantage.std_of=none",
                       "advantage.combine=per_reward"}),
              HasSubstr("`advantage.std_of` is `none`; it must be group or global with"));
}

TEST(ValidateJob, FusedKernelsAreNotForFp16) {
  EXPECT_THAT(Refusal({"device.fused_kernels=true", "model.precision=fp16"}), HasSubstr("is fp16"));
}

TEST(ValidateJob, GroupsThatAreDrawnAgainLieInOneMicroBatch) {
  const std::vector<std::string> resample = {"advantage.mode=group", "advantage.zero_std=resample",
                                             "sample.group_size=6", "sample.batch_size=24",
                                             "train.batch_size=24"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), resample.begin(), resample.end());
    return more;
  };
  EXPECT_TRUE(Judge(with({"device.device_batch_size=12"})).ok());
  const ResolvedJob open = *ResolvedJob::Make(With(with({"device.device_batch_size=0"})));
  EXPECT_THAT(open.MicroBatchChoices(16), ElementsAre(12, 6));
  EXPECT_THAT(open.MicroBatchChoices(4), ElementsAre(6));
  EXPECT_THAT(Refusal(with({"device.device_batch_size=8"})),
              HasSubstr("`device.device_batch_size` 8 is no multiple of `sample.group_size` 6"));
  EXPECT_THAT(Refusal(with({"advantage.max_resamples=9"})), HasSubstr("from 1 to 8"));
  EXPECT_THAT(Refusal({"advantage.mode=group", "advantage.zero_std=resample", "sample.group_size=6",
                       "sample.batch_size=8", "sample.num_batches_per_epoch=3",
                       "train.batch_size=8", "device.device_batch_size=0"}),
              HasSubstr("is no multiple of `sample.group_size` 6"));
}

TEST(ValidateJob, TheAverageIsOfTheNewestVersionAlone) {
  EXPECT_TRUE(Judge({"train.ema_decay=0.9", "eval.use_ema=true"}).ok());
  EXPECT_TRUE(Judge({"train.ema_decay=0.9", "sample.max_staleness=1"}).ok());
  EXPECT_THAT(Refusal({"train.ema_decay=0.9", "eval.use_ema=true", "sample.max_staleness=1"}),
              HasSubstr("`eval.use_ema` is not possible with `sample.max_staleness` above 0"));
}

TEST(ValidateJob, TheTermOfTheBaseNeedsAReplay) {
  const std::vector<std::string> single = {"train.batch_size=32", "topology={colocated: 1}",
                                           "train.update=single_pass"};
  const auto and_also = [&single](std::vector<std::string> more) {
    more.insert(more.end(), single.begin(), single.end());
    return more;
  };
  EXPECT_THAT(
      Refusal(and_also({"train.kl_coef=0.1"})),
      AllOf(HasSubstr("`train.update: single_pass` is not possible: `train.kl_coef` is 0.1"),
            HasSubstr("a reward of `type: kl_to_base`")));
  const std::string penalty =
      "rewards=[{type: jpeg, measure: compressibility}, {type: kl_to_base, weight: -0.1}]";
  EXPECT_TRUE(Judge(and_also({penalty})).ok()) << Judge(and_also({penalty}));
  const auto replay = ResolvedJob::Make(
      With({"train.kl_coef=0.1", "train.batch_size=32", "topology={colocated: 1}"}));
  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_FALSE(replay->plan().single_pass) << "`auto` knows it";
}

TEST(ValidateJob, StepsWithoutNoiseHaveNoDivergence) {
  const std::string penalty =
      "rewards=[{type: jpeg, measure: compressibility}, {type: kl_to_base, weight: -0.1}]";
  EXPECT_TRUE(Judge({penalty, "eval.path=e"}).ok());
  EXPECT_TRUE(Judge({penalty, "eval.eta=0"}).ok()) << "nothing is evaluated";
  EXPECT_THAT(Refusal({penalty, "eval.path=e", "eval.eta=0"}),
              HasSubstr("`eval.eta` is 0, and `rewards[1].type` is `kl_to_base`"));
}

TEST(TrustRegion, SaysWhatTheRecordsNeed) {
  const auto of = [](const std::vector<std::string>& settings) {
    return *ResolvedJob::Make(With(settings));
  };
  const ResolvedJob plain = of({});
  EXPECT_FALSE(plain.trust_region().records_means || plain.trust_region().records_base_means);
  EXPECT_EQ(plain.base_steps(), 0);
  EXPECT_TRUE(of({"train.trust_region=kl"}).trust_region().records_means);
  EXPECT_EQ(of({"train.trust_region=kl"}).base_steps(), 0);
  EXPECT_TRUE(of({"train.kl_coef=0.1"}).trust_region().records_base_means);
  EXPECT_EQ(of({"train.kl_coef=0.1"}).base_steps(), plain.executed_steps());
  const ResolvedJob reward = of({"rewards=[{type: kl_to_base, weight: -1}]"});
  EXPECT_EQ(reward.base_steps(), plain.executed_steps());
  EXPECT_FALSE(reward.trust_region().records_base_means) << "the reward alone crosses";
  EXPECT_FALSE(of({"train.trust_region=kl", "train.batch_size=32", "topology={colocated: 1}",
                   "train.update=single_pass"})
                   .trust_region()
                   .records_means)
      << "every ratio is 1";
}

TEST(ValidateJob, SupervisedTrainingNeedsNoRewardsAndHasNoSamples) {
  const std::string sft = "train.objective=sft";
  v1::JobSpec without_rewards = With({sft});
  without_rewards.clear_rewards();
  EXPECT_TRUE(ResolvedJob::Make(without_rewards).ok());
  EXPECT_THAT(Refusal({"train.objective=sftt"}), HasSubstr("did you mean `sft`?"));
  for (const char* setting :
       {"sample.max_staleness=1", "train.kl_coef=0.1", "train.trust_region=kl"}) {
    EXPECT_THAT(Refusal({sft, setting}), HasSubstr("has no meaning with `train.objective: sft`"));
  }
  EXPECT_THAT(
      Refusal({sft, "train.batch_size=32", "topology={colocated: 1}", "train.update=single_pass"}),
      HasSubstr("`train.objective: sft` samples nothing"));
  const auto job = ResolvedJob::Make(With({sft, "train.batch_size=32", "topology={colocated: 1}"}));
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->objective(), Objective::kSft);
  EXPECT_FALSE(job->plan().single_pass) << "`auto` knows it";
  EXPECT_THAT(Warnings({sft}), ElementsAre(HasSubstr("`rewards` have no effect")));
  EXPECT_THAT(Warnings({sft, "eval.path=e"}), IsEmpty());
}

// 10 of 50 steps are executed.
TEST(ValidateJob, AWindowLiesAmongTheExecutedSteps) {
  EXPECT_TRUE(Judge({"train.step_window={size: 10}"}).ok());
  EXPECT_TRUE(Judge({"sample.sde_window={size: 4, start: 6, stride: 1}"}).ok());
  EXPECT_THAT(Refusal({"train.step_fraction=0"}),
              HasSubstr("`train.step_fraction` is 0; it must be above 0 and at most 1"));
  EXPECT_THAT(Refusal({"train.step_window={start: 2}"}),
              HasSubstr("`train.step_window.size` is not given"));
  EXPECT_THAT(Refusal({"train.step_window={size: 11}"}),
              HasSubstr("`train.step_window.size` is 11; it must be a whole number from 1 to 10, "
                        "of the 10 executed steps"));
  EXPECT_THAT(Refusal({"sample.sde_window={size: 4, start: 7}"}),
              HasSubstr("`sample.sde_window.start` is 7; it must be a whole number from 0 to 6"));
  EXPECT_THAT(Refusal({"sample.sde_window={size: 4, stride: -1}"}),
              HasSubstr("`sample.sde_window.stride` is -1"));
  EXPECT_THAT(Refusal({"sample.sde_window={size: 4, every_epochs: 0}"}),
              HasSubstr("`sample.sde_window.every_epochs` is 0"));
  EXPECT_THAT(Refusal({"sample.sde_window={size: 4}", "train.step_window={size: 4}"}),
              HasSubstr("`train.step_window` is given with `sample.sde_window`"));
}

TEST(TrainedSteps, AreCountedFromWindowAndShare) {
  const auto of = [](const std::vector<std::string>& settings) {
    return *ResolvedJob::Make(With(settings));
  };
  EXPECT_EQ(of({}).steps().trained, 10);
  EXPECT_EQ(of({}).steps().random(), 10);
  EXPECT_EQ(of({"train.step_fraction=0.3"}).steps().trained, 3);
  EXPECT_EQ(of({"train.step_fraction=0.01"}).steps().trained, 1) << "at least one";
  const ResolvedJob window = of({"train.step_fraction=0.5", "train.step_window={size: 4}"});
  EXPECT_EQ(window.steps().trained, 2);
  EXPECT_EQ(window.steps().random(), 10);
  const ResolvedJob random = of({"sample.sde_window={size: 4}"});
  EXPECT_EQ(random.steps().trained, 4);
  EXPECT_EQ(random.steps().random(), 4);
  EXPECT_EQ(of({"sample.sde_window={size: 4}", "train.step_fraction=0.5", "train.kl_coef=0.1"})
                .base_steps(),
            2);
  EXPECT_EQ(
      of({"sample.sde_window={size: 4}", "rewards=[{type: kl_to_base, weight: -1}]"}).base_steps(),
      4)
      << "the others have no divergence";
  EXPECT_TRUE(of({"sample.sde_window={size: 4}", "train.batch_size=32", "topology={colocated: 1}"})
                  .plan()
                  .single_pass);
}

TEST(JobWarnings, TellThatResamplingOrTheTargetOfDecayHasNoEffect) {
  EXPECT_THAT(Warnings({"advantage.max_resamples=3"}),
              ElementsAre(HasSubstr("`advantage.max_resamples` has no effect without")));
  EXPECT_THAT(Warnings({"train.weight_decay_to=initial"}), IsEmpty());
  EXPECT_THAT(Warnings({"train.weight_decay_to=initial", "train.adam_weight_decay=0"}),
              ElementsAre(HasSubstr("`train.weight_decay_to` has no effect")));
}

TEST(JobWarnings, TellThatATrustRegionHasNoEffect) {
  EXPECT_THAT(Warnings({"train.trust_region=kl"}), IsEmpty());
  EXPECT_THAT(Warnings({"train.kl_limit=0.5"}), ElementsAre(HasSubstr("`train.kl_limit` has no")));
  EXPECT_THAT(Warnings({"train.trust_region=kl", "train.batch_size=32"}),
              ElementsAre(HasSubstr("an epoch has one update")));
  EXPECT_THAT(
      Warnings({"train.trust_region=kl", "train.batch_size=32", "train.num_inner_epochs=2"}),
      IsEmpty());
  EXPECT_THAT(Warnings({"train.trust_region=kl", "train.batch_size=32", "sample.max_staleness=1"}),
              IsEmpty());
  EXPECT_THAT(Warnings({"rewards=[{type: kl_to_base}]"}),
              ElementsAre(HasSubstr("`rewards[0].weight` is 1, which rewards the distance")));
  EXPECT_THAT(Warnings({"rewards=[{type: kl_to_base, weight: -1}]"}), IsEmpty());
}

TEST(JobWarnings, TellThatNoKeyGetsEnoughRewards) {
  const auto job = [](int64_t epochs, int64_t min_count, int64_t group_size = 1) {
    return *ResolvedJob::Make(
        With({"advantage.mode=per_key", "advantage.buffer_size=100",
              absl::StrCat("num_epochs=", epochs), absl::StrCat("advantage.min_count=", min_count),
              absl::StrCat("sample.group_size=", group_size)}));
  };
  // 32 samples an epoch: 64 in all.
  EXPECT_THAT(job(2, 64).Warnings(), IsEmpty());
  EXPECT_THAT(job(2, 65).Warnings(),
              ElementsAre(HasSubstr("`advantage.min_count` is 65, and the job has 64 samples")));
  EXPECT_EQ(job(2, 65).WarningOfKeys(10, 1), "") << "it has been said";
  // Of 10 images, four are drawn a seventh time.
  EXPECT_EQ(job(2, 7).WarningOfKeys(10, 1), "");
  EXPECT_THAT(job(2, 8).WarningOfKeys(10, 1),
              AllOf(HasSubstr("no key gets more than 7 rewards"), HasSubstr("has 10 images")));
  EXPECT_EQ(job(2, 14).WarningOfKeys(10, 2), "") << "two images of one prompt";
  EXPECT_THAT(job(2, 15).WarningOfKeys(10, 2), HasSubstr("more than 14"));
  // 16 groups: six images have a second one.
  EXPECT_EQ(job(2, 8, 4).WarningOfKeys(10, 1), "");
  EXPECT_THAT(job(2, 9, 4).WarningOfKeys(10, 1), HasSubstr("more than 8"));
  EXPECT_EQ(ResolvedJob::Make(With({"num_epochs=1"}))->WarningOfKeys(1'000, 1), "") << "global";
}

}  // namespace
}  // namespace imageddpo
