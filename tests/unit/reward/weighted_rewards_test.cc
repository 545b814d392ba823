#include "rollout/reward/weighted_rewards.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "common/io/image.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Returns what it was given.
class FixedReward final : public Reward {
 public:
  FixedReward(std::string name, std::vector<double> values)
      : name_(std::move(name)), values_(std::move(values)) {}
  std::string name() const override { return name_; }
  absl::StatusOr<RewardOutput> Score(const RewardInputs&) override {
    if (values_.empty()) return absl::UnavailableError("the model is gone");
    const at::Tensor values_B = at::tensor(values_, at::kFloat);
    return RewardOutput{values_B, {{"half", values_B.div(2)}}};
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

WeightedRewards Rewards(const std::vector<Spec>& specs,
                        NonFinitePolicy policy = NonFinitePolicy::kFail) {
  std::vector<WeightedRewards::Term> terms;
  terms.reserve(specs.size());
  for (const Spec& spec : specs) {
    terms.push_back({std::make_unique<FixedReward>(spec.name, spec.values), spec.weight});
  }
  return WeightedRewards(std::move(terms), policy);
}

TEST(WeightedRewardsTest, SumsWithWeights) {
  Batch batch = Batch::OfBlackImages(2);
  const auto output = Rewards({{"a", {1, 2}, 0.5}, {"b", {10, -4}, -2.0}}).Score(batch.inputs());
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ToVector(output->values_B), ElementsAre(-19.5, 9.0));
  EXPECT_EQ(output->values_B.scalar_type(), at::kDouble);
  EXPECT_THAT(output->statuses, ElementsAre(absl::OkStatus(), absl::OkStatus()));
}

TEST(WeightedRewardsTest, KeepsThePartsUnderEachRewardsName) {
  Batch batch = Batch::OfBlackImages(2);
  WeightedRewards rewards = Rewards({{"a", {1, 2}, 0.5}, {"b", {3, 4}}, {"a", {5, 6}}});
  EXPECT_THAT(rewards.names(), ElementsAre("a", "b", "a_2"));
  const auto output = rewards.Score(batch.inputs());
  ASSERT_TRUE(output.ok());
  EXPECT_EQ(output->parts.size(), 6);
  EXPECT_THAT(ToVector(output->parts.at("a.value")), ElementsAre(1, 2));
  EXPECT_THAT(ToVector(output->parts.at("a.half")), ElementsAre(0.5, 1));
  EXPECT_THAT(ToVector(output->parts.at("b.value")), ElementsAre(3, 4));
  EXPECT_THAT(ToVector(output->parts.at("a_2.half")), ElementsAre(2.5, 3));
}

TEST(WeightedRewardsTest, AValueThatIsNotFiniteIsAnErrorThatNamesIt) {
  Batch batch = Batch::OfBlackImages(3);
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    const auto output = Rewards({{"good", {1, 2, 3}}, {"bad", {1, 2, bad}}}).Score(batch.inputs());
    EXPECT_EQ(output.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(output.status().message()),
                AllOf(HasSubstr("'bad'"), HasSubstr("'ex2'")));
  }
}

TEST(WeightedRewardsTest, OrMarksTheItemWhereAskedTo) {
  Batch batch = Batch::OfBlackImages(3);
  const auto output =
      Rewards({{"a", {1, kNan, 3}, 2.0}, {"b", {1, kInfinity, 1}}}, NonFinitePolicy::kMark)
          .Score(batch.inputs());
  ASSERT_TRUE(output.ok()) << output.status();
  const std::vector<double> values = ToVector(output->values_B);
  EXPECT_EQ(values[0], 3.0);
  EXPECT_TRUE(std::isnan(values[1]));
  EXPECT_EQ(values[2], 7.0);
  EXPECT_TRUE(output->statuses[0].ok());
  EXPECT_THAT(std::string(output->statuses[1].message()),
              AllOf(HasSubstr("'a'"), HasSubstr("'ex1'")));  // The first reason.
  EXPECT_TRUE(output->statuses[2].ok());
}

TEST(WeightedRewardsTest, AFailingRewardIsNamed) {
  Batch batch = Batch::OfBlackImages(1);
  const absl::Status status = Rewards({{"broken", {}}}).Score(batch.inputs()).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("'broken'"), HasSubstr("is gone")));
}

TEST(WeightedRewardsTest, ARewardThatReturnsTooFewValuesIsAnError) {
  Batch batch = Batch::OfBlackImages(3);
  EXPECT_TRUE(absl::IsInternal(Rewards({{"short", {1, 2}}}).Score(batch.inputs()).status()));
}

TEST(WeightedRewardsTest, ChecksWhatItIsGiven) {
  WeightedRewards rewards = Rewards({{"a", {1, 2}}});
  const auto is_refused = [&](const auto& change) {
    Batch batch = Batch::OfBlackImages(2);
    change(batch.inputs());
    return absl::IsInvalidArgument(rewards.Score(batch.inputs()).status());
  };
  EXPECT_FALSE(is_refused([](RewardInputs&) {}));
  EXPECT_TRUE(is_refused([](RewardInputs& in) { in.prompts.pop_back(); }));
  EXPECT_TRUE(is_refused([](RewardInputs& in) { in.examples.pop_back(); }));
  EXPECT_TRUE(is_refused([](RewardInputs& in) { in.generated_BCHW = at::Tensor(); }));
  EXPECT_TRUE(is_refused([](RewardInputs& in) { in.generated_BCHW = at::zeros({2, 1, 4, 4}); }));
  EXPECT_TRUE(is_refused([](RewardInputs& in) { in.inputs_BCHW = at::zeros({1, 3, 4, 4}); }));
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

TEST(WeightedRewardsTest, IsMadeFromSettings) {
  RewardConfig jpeg;
  jpeg.type = "jpeg";
  jpeg.measure = "compressibility";
  jpeg.weight = 0.5;
  auto rewards = WeightedRewards::Make({jpeg, jpeg}, at::kCPU);
  ASSERT_TRUE(rewards.ok()) << rewards.status();
  EXPECT_THAT(rewards->names(), ElementsAre("jpeg", "jpeg_2"));
  Batch batch = Batch::OfBlackImages(1);
  const auto output = rewards->Score(batch.inputs());
  ASSERT_TRUE(output.ok());
  EXPECT_EQ(ToVector(output->values_B)[0], ToVector(output->parts.at("jpeg.value"))[0]);

  EXPECT_TRUE(absl::IsInvalidArgument(WeightedRewards::Make({}, at::kCPU).status()));
  jpeg.measure = "size";
  EXPECT_FALSE(WeightedRewards::Make({jpeg}, at::kCPU).ok());
}

}  // namespace
}  // namespace imageddpo
