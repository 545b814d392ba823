// A reward type that was added to copies of the sources as CONTRIBUTING.md says (add_type.py): job
// files know it, its settings are checked, and jobs score with it.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/config/job_config.h"
#include "rollout/reward/make_reward.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<ResolvedJob> JobOf(const std::string& rewards) {
  return ResolvedJob::Make(
      *ParseJobYaml("model: {path: model}\ndata: {path: data}\nrewards: " + rewards, "job.yaml"));
}

TEST(NewRewardType, ScoresInAJob) {
  const absl::StatusOr<ResolvedJob> job =
      JobOf("[{type: brightness, weight: 2}, {type: jpeg, measure: compressibility, weight: 0}]");
  ASSERT_TRUE(job.ok()) << job.status();
  const auto reward = MakeJobReward(*job, at::kCPU);
  ASSERT_TRUE(reward.ok()) << reward.status();
  const auto batch = BlackImages(1);
  batch->generated_BCHW = at::full({1, 3, 4, 4}, 0.25);
  const auto output = Score(reward->get(), batch);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 0.5);
  EXPECT_EQ(output->parts.at("brightness.value")[0], 0.25);
}

TEST(NewRewardType, RefusesTheSettingsOfOthers) {
  const std::string faults(
      JobOf("[{type: brightness, measure: x, model: m, jpeg_quality: 3}]").status().message());
  for (const std::string setting : {"measure", "model", "jpeg_quality"}) {
    EXPECT_THAT(faults, HasSubstr("`rewards[0]." + setting + "` is no setting of `type: bright"));
  }
  EXPECT_THAT(std::string(JobOf("[{type: brightnes}]").status().message()),
              AllOf(HasSubstr("classifier, jpeg, brightness"), HasSubstr("`brightness`?")));
}

}  // namespace
}  // namespace imageddpo
