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

TEST(ValidateJob, TheAverageIsOfTheNewestVersionAlone) {
  EXPECT_TRUE(Judge({"train.ema_decay=0.9", "eval.use_ema=true"}).ok());
  EXPECT_TRUE(Judge({"train.ema_decay=0.9", "sample.max_staleness=1"}).ok());
  EXPECT_THAT(Refusal({"train.ema_decay=0.9", "eval.use_ema=true", "sample.max_staleness=1"}),
              HasSubstr("`eval.use_ema` is not possible with `sample.max_staleness` above 0"));
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
