#include "rollout/reward/make_reward.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "tests/testing/judged.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A job with these rewards and every default.
ResolvedJob JobOf(const std::string& rewards) {
  return Judged(*ParseJobYaml("rewards: " + rewards, "job.yaml"));
}

std::string ErrorOf(const std::string& rewards) {
  return std::string(MakeJobReward(JobOf(rewards), at::kCPU).status().message());
}

TEST(MakeReward, HasAClassForEachType) {
  for (const RewardTypeInfo& type : RewardTypes()) {
    RewardConfig config;
    config.type = type.type;
    if (type.has_model) config.model = "tests/data/classifiers/tiny.pt";
    const auto reward = MakeReward(config, at::kCPU);
    ASSERT_TRUE(reward.ok()) << reward.status();
    EXPECT_EQ((*reward)->name(), type.name);
  }
}

TEST(MakeJobReward, MakesEveryMeasureOfEveryType) {
  for (const RewardTypeInfo& type : RewardTypes()) {
    for (const RewardMeasureInfo& measure : type.measures) {
      EXPECT_EQ(
          ErrorOf("[{type: " + std::string(type.name) + ", measure: " + std::string(measure.name) +
                  (type.has_model ? ", model: tests/data/classifiers/tiny.pt}]" : "}]")),
          "");
    }
  }
}

TEST(MakeJobReward, TakesTheSettings) {
  const auto reward = MakeJobReward(
      JobOf("[{type: jpeg, measure: incompressibility}, {type: jpeg, measure: compressibility, "
            "jpeg_quality: 1, clamp: 0.5, weight: 3}]"),
      at::kCPU);
  ASSERT_TRUE(reward.ok()) << reward.status();
  const auto output = Score(reward->get(), BlackImages(1));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_LT(output->parts.at("jpeg_2.bytes")[0], output->parts.at("jpeg.bytes")[0]);
  EXPECT_EQ(output->parts.at("jpeg_2.value")[0], -0.5);
  EXPECT_EQ(output->values_B[0].value(), output->parts.at("jpeg.value")[0] - 1.5);
}

TEST(MakeJobReward, LimitsEveryMeasureWhereAskedTo) {
  const auto batch = BlackImages(1);
  batch->generated_BCHW = at::full({1, 3, 4, 4}, 1e4);
  batch->examples[0].label = 0;
  for (const std::string measure : {"logit_change", "margin_change", "logit_max_margin"}) {
    const auto value_of = [&](const std::string& clamp) {
      const auto reward = MakeJobReward(
          JobOf("[{type: classifier, model: tests/data/classifiers/tiny.pt, measure: " + measure +
                ", clamp: " + clamp + "}]"),
          at::kCPU);
      return std::abs(ValuesOf(*Score(reward->get(), batch))[0]);
    };
    EXPECT_EQ(value_of("2.5"), 2.5);
    EXPECT_GT(value_of("0"), 100.0);
  }
}

TEST(MakeJobReward, NumbersRewardsOfOneType) {
  const auto reward = MakeJobReward(
      JobOf("[{type: l1, offset: 1}, {type: l2, held_out: true}, {type: l1, scale: 3, weight: 2}]"),
      at::kCPU);
  ASSERT_TRUE(reward.ok()) << reward.status();
  const auto batch = BlackImages(1);
  batch->generated_BCHW = at::full({1, 3, 4, 4}, 0.5);
  const auto output = Score(reward->get(), batch);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->parts.at("l1.value")[0], -0.5);
  EXPECT_EQ(output->parts.at("l2.value")[0], 0.25);
  EXPECT_EQ(output->parts.at("l1_2.value")[0], 1.5);
  EXPECT_EQ(output->values_B[0].value(), 2.5);
}

TEST(MakeJobReward, APenaltyForLeavingTheBaseModelIsSubtracted) {
  const auto reward =
      MakeJobReward(JobOf("[{type: l1}, {type: kl_to_base, weight: -0.5}]"), at::kCPU);
  ASSERT_TRUE(reward.ok()) << reward.status();
  EXPECT_TRUE((*reward)->wants().kl_to_base);
  EXPECT_FALSE((*MakeJobReward(JobOf("[{type: l1}]"), at::kCPU))->wants().kl_to_base);
  const auto batch = BlackImages(2);
  batch->kl_to_base_B = at::full({2}, 0.25, at::kDouble);
  const auto output = Score(reward->get(), batch);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->parts.at("kl_to_base.value"), (std::vector<double>{0.25, 0.25}));
  EXPECT_EQ(output->values_B[1].value(), output->parts.at("l1.value")[1] - 0.125);

  batch->kl_to_base_B = at::full({3}, 0.25, at::kDouble);
  EXPECT_EQ(Score(reward->get(), batch).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Score(reward->get(), BlackImages(2)).status().code(), absl::StatusCode::kInternal)
      << "the sampler has not computed them";
}

TEST(MakeJobReward, NamesAFileThatIsNotThere) {
  EXPECT_THAT(ErrorOf("[{type: classifier, measure: logit_change, model: none.pt}]"),
              AllOf(HasSubstr("rewards.model"), HasSubstr("none.pt")));
}

}  // namespace
}  // namespace imageddpo
