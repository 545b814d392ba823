#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "rollout/reward/make_reward.h"
#include "rollout/reward/reward.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

RewardConfig Good(const std::string& type) {
  RewardConfig config;
  config.type = type;
  config.model = type == "classifier" ? "tests/data/classifiers/tiny.pt" : "";
  config.measure = type == "classifier" ? "logit_change" : "compressibility";
  return config;
}

std::string ErrorOf(const std::string& type, const std::function<void(RewardConfig&)>& change) {
  RewardConfig config = Good(type);
  change(config);
  const absl::Status status = config.Validate();
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status));
  EXPECT_EQ(MakeReward(config, at::kCPU).ok(), status.ok());
  return std::string(status.message());
}

TEST(RewardConfigTest, AcceptsEveryTypeAndMeasure) {
  for (const char* measure : {"logit_change", "margin_change", "logit_max_margin"}) {
    EXPECT_EQ(ErrorOf("classifier", [&](RewardConfig& c) { c.measure = measure; }), "");
  }
  for (const char* measure : {"compressibility", "incompressibility"}) {
    EXPECT_EQ(ErrorOf("jpeg", [&](RewardConfig& c) { c.measure = measure; }), "");
  }
  EXPECT_EQ(ErrorOf("jpeg", [](RewardConfig& c) { c.weight = -0.5; }), "");
  EXPECT_EQ(ErrorOf("jpeg", [](RewardConfig& c) { c.clamp = 0.0; }), "");
  EXPECT_EQ(MakeReward(Good("classifier"), at::kCPU).value()->name(), "classifier");
  EXPECT_EQ(MakeReward(Good("jpeg"), at::kCPU).value()->name(), "jpeg");
}

TEST(RewardConfigTest, NamesSettingAndChoices) {
  EXPECT_THAT(ErrorOf("jpeg", [](RewardConfig& c) { c.type = "clasifier"; }),
              AllOf(HasSubstr("rewards.type"), HasSubstr("did you mean 'classifier'?"),
                    HasSubstr("classifier, jpeg")));
  EXPECT_THAT(ErrorOf("jpeg", [](RewardConfig& c) { c.type = ""; }), HasSubstr("rewards.type"));
  EXPECT_THAT(ErrorOf("jpeg", [](RewardConfig& c) { c.measure = "logit_change"; }),
              AllOf(HasSubstr("rewards.measure"), HasSubstr("compressibility")));
  EXPECT_THAT(ErrorOf("classifier", [](RewardConfig& c) { c.measure = "compressibility"; }),
              AllOf(HasSubstr("rewards.measure"), HasSubstr("logit_max_margin")));
}

TEST(RewardConfigTest, RefusesImpossibleValues) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double weight : {kInfinity, kNan}) {
    EXPECT_THAT(ErrorOf("jpeg", [&](RewardConfig& c) { c.weight = weight; }),
                HasSubstr("rewards.weight"));
  }
  for (const double clamp : {-1.0, kInfinity, kNan}) {
    EXPECT_THAT(ErrorOf("jpeg", [&](RewardConfig& c) { c.clamp = clamp; }),
                HasSubstr("rewards.clamp"));
  }
  for (const int quality : {0, 101, -5}) {
    EXPECT_THAT(ErrorOf("jpeg", [&](RewardConfig& c) { c.jpeg_quality = quality; }),
                HasSubstr("rewards.jpeg_quality"));
  }
  EXPECT_THAT(ErrorOf("classifier", [](RewardConfig& c) { c.model = ""; }),
              HasSubstr("rewards.model is missing"));
  EXPECT_THAT(ErrorOf("jpeg", [](RewardConfig& c) { c.model = "m.pt"; }),
              HasSubstr("rewards.model"));
}

}  // namespace
}  // namespace imageddpo
