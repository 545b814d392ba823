#include "rollout/reward/weighted_rewards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/io/image.h"
#include "tests/testing/async_reward.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

RewardOutput Values(const std::vector<double>& values) {
  RewardOutput output;
  for (const double value : values) {
    output.values_B.emplace_back(value);
    output.parts["half"].push_back(value / 2);
  }
  return output;
}

/// Returns what it was given, or an error where that is nothing.
class FixedReward final : public Reward {
 public:
  FixedReward(std::string name, std::vector<double> values)
      : name_(std::move(name)), values_(std::move(values)) {}
  std::string name() const override { return name_; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch>) override {
    return ComputeInWait([values = values_]() -> absl::StatusOr<RewardOutput> {
      if (values.empty()) return absl::UnavailableError("the model is gone");
      return Values(values);
    });
  }
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override {
    if (width == height) return absl::OkStatus();
    return absl::InvalidArgumentError("not square, example " + dataset.at(0).id);
  }

 private:
  std::string name_;
  std::vector<double> values_;
};

struct Spec {
  std::string name;
  std::vector<double> values;
  double weight = 1.0;
};

RewardConfig WeightedConfig(const std::string& name, double weight = 1.0) {
  RewardConfig config;
  config.name = name;
  config.weight = weight;
  return config;
}

WeightedRewards Rewards(const std::vector<Spec>& specs) {
  std::vector<WeightedRewards::Term> terms;
  terms.reserve(specs.size());
  for (const Spec& spec : specs) {
    terms.push_back({std::make_unique<FixedReward>(spec.name, spec.values),
                     WeightedConfig(spec.name, spec.weight)});
  }
  return WeightedRewards(std::move(terms));
}

absl::StatusOr<RewardOutput> ScoreAll(WeightedRewards rewards, int64_t num_images) {
  return Score(&rewards, BlackImages(num_images));
}

TEST(WeightedRewardsTest, SumsWithWeights) {
  const auto output = ScoreAll(Rewards({{"a", {1, 2}, 0.5}, {"b", {10, -4}, -2.0}}), 2);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(-19.5, 9.0));
}

TEST(WeightedRewardsTest, KeepsThePartsUnderEachRewardsName) {
  WeightedRewards rewards = Rewards({{"a", {1, 2}, 0.5}, {"b", {3, 4}}, {"a_2", {5, 6}}});
  const auto output = Score(&rewards, BlackImages(2));
  ASSERT_TRUE(output.ok());
  EXPECT_EQ(output->parts.size(), 6);
  EXPECT_THAT(output->parts.at("a.value"), ElementsAre(1, 2));
  EXPECT_THAT(output->parts.at("a.half"), ElementsAre(0.5, 1));
  EXPECT_THAT(output->parts.at("b.value"), ElementsAre(3, 4));
  EXPECT_THAT(output->parts.at("a_2.half"), ElementsAre(2.5, 3));
}

TEST(WeightedRewardsTest, ValuesAreShiftedScaledAndThenLimited) {
  RewardConfig config = WeightedConfig("a", 10);
  config.offset = 30;
  config.scale = 0.5;
  config.clamp = 2;
  std::vector<WeightedRewards::Term> terms;
  terms.push_back(
      {std::make_unique<FixedReward>("a", std::vector<double>{31, 20, 90, kNan}), config});
  const auto output = ScoreAll(WeightedRewards(std::move(terms)), 4);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 5);
  EXPECT_EQ(output->values_B[1].value(), -20);
  EXPECT_EQ(output->values_B[2].value(), 20);
  EXPECT_FALSE(output->values_B[3].ok());
  EXPECT_THAT(std::vector<double>(output->parts.at("a.value").begin(),
                                  output->parts.at("a.value").begin() + 3),
              ElementsAre(0.5, -2, 2));
  EXPECT_THAT(output->parts.at("a.half"), testing::Contains(15.5));  // Parts are as measured.
}

TEST(WeightedRewardsTest, WhatIsHeldOutIsReportedOnly) {
  RewardConfig held_out = WeightedConfig("b", 100);
  held_out.held_out = true;
  std::vector<WeightedRewards::Term> terms;
  terms.push_back(
      {std::make_unique<FixedReward>("a", std::vector<double>{1, 2}), WeightedConfig("a")});
  terms.push_back({std::make_unique<FixedReward>("b", std::vector<double>{3, 4}), held_out});
  const auto output = ScoreAll(WeightedRewards(std::move(terms)), 2);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(1, 2));
  EXPECT_THAT(output->parts.at("b.value"), ElementsAre(3, 4));
}

TEST(WeightedRewardsTest, DropsWhatIsNotFiniteWhereAskedTo) {
  const auto make = [](const std::string& name, const std::vector<double>& values, bool held_out) {
    RewardConfig config = WeightedConfig(name, 2);
    config.on_nan = OnNan::kDrop;
    config.held_out = held_out;
    return WeightedRewards::Term{std::make_unique<FixedReward>(name, values), config};
  };
  std::vector<WeightedRewards::Term> terms;
  terms.push_back(make("a", {1, kNan, 3, kInfinity}, false));
  terms.push_back(make("b", {kNan, 5, 6, 7}, true));
  const auto output = ScoreAll(WeightedRewards(std::move(terms)), 4);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 2);
  EXPECT_TRUE(std::isnan(output->values_B[1].value()));
  EXPECT_EQ(output->values_B[2].value(), 6);
  EXPECT_TRUE(std::isnan(output->values_B[3].value()));
  EXPECT_THAT(output->parts.at("a.dropped"), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(output->parts.at("b.dropped"), ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(output->why_dropped.at("a"), AllOf(HasSubstr("'ex1'"), HasSubstr("not finite")));
  EXPECT_TRUE(std::isnan(output->parts.at("a.value")[3]));
}

TEST(WeightedRewardsTest, AValueThatIsNotFiniteIsTheItemsError) {
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    const auto output = ScoreAll(Rewards({{"good", {1, 2, 3}}, {"bad", {1, 2, bad}}}), 3);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_EQ(output->values_B[1].value(), 4);
    const absl::Status status = output->values_B[2].status();
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("'bad'"), HasSubstr("'ex2'"), HasSubstr("not finite")));
  }
}

TEST(WeightedRewardsTest, TheFirstErrorOfAnItemCounts) {
  const auto output = ScoreAll(Rewards({{"a", {1, kNan, 3}, 2.0}, {"b", {1, kInfinity, 1}}}), 3);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 3.0);
  EXPECT_THAT(std::string(output->values_B[1].status().message()),
              AllOf(HasSubstr("'a'"), HasSubstr("'ex1'")));
  EXPECT_EQ(output->values_B[2].value(), 7.0);
}

TEST(WeightedRewardsTest, AFailingRewardIsNamed) {
  const absl::Status status = ScoreAll(Rewards({{"broken", {}}}), 1).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("'broken'"), HasSubstr("is gone")));
}

TEST(WeightedRewardsTest, ARewardThatReturnsTooFewValuesIsAnError) {
  const absl::Status status = ScoreAll(Rewards({{"short", {1, 2}}}), 3).status();
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("'short'"));
}

TEST(WeightedRewardsTest, ChecksWhatItIsGiven) {
  WeightedRewards rewards = Rewards({{"a", {1, 2}}});
  const auto is_refused = [&](const auto& change) {
    const auto batch = BlackImages(2);
    change(*batch);
    return absl::IsInvalidArgument(Score(&rewards, batch).status());
  };
  EXPECT_FALSE(is_refused([](RewardBatch&) {}));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.prompts.pop_back(); }));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.examples.pop_back(); }));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.generated_BCHW = at::Tensor(); }));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.generated_BCHW = at::zeros({2, 1, 4, 4}); }));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.inputs_BCHW = at::zeros({1, 3, 4, 4}); }));
  EXPECT_TRUE(is_refused([](RewardBatch& in) { in.targets_BCHW = at::zeros({1, 3, 4, 4}); }));
  EXPECT_FALSE(is_refused([](RewardBatch& in) { in.targets_BCHW = at::zeros({2, 3, 4, 4}); }));
}

TEST(WeightedRewardsTest, ChecksTheDatasetWithEveryReward) {
  const TempDir dir;
  dir.Write("a.png", *EncodePng({1, 1, {1, 2, 3}}));
  const auto dataset = Dataset::Open(dir.path());
  WeightedRewards rewards = Rewards({{"a", {1}}, {"b", {1}}});
  EXPECT_TRUE(rewards.CheckDataset(*dataset, 8, 8).ok());
  EXPECT_THAT(std::string(rewards.CheckDataset(*dataset, 8, 9).message()),
              AllOf(HasSubstr("'a'"), HasSubstr("a.png")));
}

RewardDeadline In(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

constexpr std::chrono::seconds kLong{60};

/// The sum of a reward that scores on threads and one that computes in Wait().
WeightedRewards AsyncAnd(const Spec& fixed, AsyncReward::Function function) {
  std::vector<WeightedRewards::Term> terms;
  terms.push_back(
      {std::make_unique<AsyncReward>("async", std::move(function)), WeightedConfig("async")});
  terms.push_back({std::make_unique<FixedReward>(fixed.name, fixed.values),
                   WeightedConfig(fixed.name, fixed.weight)});
  return WeightedRewards(std::move(terms));
}

TEST(PendingRewards, MayFinishInAnyOrder) {
  constexpr size_t kNumBatches = 3;
  std::vector<absl::Notification> done(kNumBatches);
  WeightedRewards rewards =
      AsyncAnd({"b", {100, 200}}, [&](const RewardBatch& batch) -> absl::StatusOr<RewardOutput> {
        const auto number = static_cast<size_t>(*batch.examples[0].label);
        if (number + 1 < kNumBatches) done[number + 1].WaitForNotification();  // The last is first.
        done[number].Notify();
        const auto value = static_cast<double>(number);
        return Values({value, 10 * value});
      });
  std::vector<std::unique_ptr<PendingReward>> pending;
  for (size_t number = 0; number < kNumBatches; ++number) {
    const auto batch = BlackImages(2);  // Nobody but the reward keeps it.
    batch->examples[0].label = static_cast<int64_t>(number);
    pending.push_back(rewards.Start(batch));
  }
  for (size_t number = 0; number < kNumBatches; ++number) {
    const auto output = pending[number]->Wait(In(kLong));
    ASSERT_TRUE(output.ok()) << output.status();
    const auto value = static_cast<double>(number);
    EXPECT_THAT(ValuesOf(*output), ElementsAre(100 + value, 200 + 10 * value));
    EXPECT_THAT(output->parts.at("async.half"), ElementsAre(value / 2, 5 * value));
  }
}

TEST(PendingRewards, AnItemsErrorLeavesTheOtherItemsTheirValues) {
  WeightedRewards rewards = AsyncAnd({"b", {1, 2, 3}}, [](const RewardBatch&) {
    RewardOutput output = Values({10, 20, 30});
    output.values_B[1] = absl::UnimplementedError("cannot read grey images");
    return output;
  });
  const auto output = Score(&rewards, BlackImages(3));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 11);
  EXPECT_EQ(output->values_B[2].value(), 33);
  EXPECT_EQ(output->values_B[1].status(),
            absl::UnimplementedError("reward 'async' of image 'ex1': cannot read grey images"));
  EXPECT_TRUE(std::isnan(output->parts.at("async.value")[1]));
  EXPECT_THAT(output->parts.at("b.value"), ElementsAre(1, 2, 3));
}

TEST(PendingRewards, DropsItemsWithErrorsWhereAskedTo) {
  for (const bool held_out : {false, true}) {
    RewardConfig config = WeightedConfig("async", 2);
    config.on_error = OnRewardError::kDrop;
    config.held_out = held_out;
    std::vector<WeightedRewards::Term> terms;
    terms.push_back({std::make_unique<AsyncReward>("async",
                                                   [](const RewardBatch&) {
                                                     RewardOutput output = Values({10, 20, kNan});
                                                     output.values_B[1] =
                                                         absl::InternalError("no face");
                                                     return output;
                                                   }),
                     config});
    terms.push_back(
        {std::make_unique<FixedReward>("b", std::vector<double>{1, 2, 3}), WeightedConfig("b")});
    WeightedRewards rewards(std::move(terms));
    const auto output = Score(&rewards, BlackImages(3));
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_EQ(output->values_B[0].value(), held_out ? 1 : 21);
    ASSERT_TRUE(output->values_B[1].ok());
    EXPECT_EQ(std::isnan(output->values_B[1].value()), !held_out);
    EXPECT_TRUE(absl::IsOutOfRange(output->values_B[2].status()));  // on_nan: fail
    EXPECT_THAT(output->parts.at("async.dropped"), ElementsAre(0, 1, 0));
    EXPECT_THAT(output->parts.at("b.value"), ElementsAre(1, 2, 3));
    EXPECT_EQ(output->why_dropped.at("async"), "image 'ex1': no face");
  }
}

TEST(PendingRewards, ATimeoutNamesTheRewardAndLosesNothing) {
  absl::Notification may_finish;
  WeightedRewards rewards = AsyncAnd({"b", {1}}, [&](const RewardBatch&) {
    may_finish.WaitForNotification();
    return Values({10});
  });
  const auto pending = rewards.Start(BlackImages(1));
  const absl::Status status = pending->Wait(In(std::chrono::milliseconds(10))).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("reward 'async'"));
  may_finish.Notify();
  const auto output = pending->Wait(In(kLong));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(11));
}

TEST(PendingRewards, MayBeGivenUp) {
  absl::Notification may_finish;
  WeightedRewards rewards = AsyncAnd({"b", {1}}, [&](const RewardBatch&) {
    may_finish.WaitForNotification();
    return Values({10});
  });
  rewards.Start(BlackImages(1)).reset();
  may_finish.Notify();
}

}  // namespace
}  // namespace imageddpo
