#include "rollout/reward/classifier_reward.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/io/image.h"
#include "common/io/safetensors.h"
#include "rollout/reward/make_reward.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kFolder = "tests/data/classifiers/";
constexpr int64_t kNumClasses = 4;
const std::vector<std::optional<int64_t>> kLabels = {0, 1, 2, 3, 0, 1};

RewardConfig ConfigOf(const std::string& file, RewardMeasure measure) {
  RewardConfig config;
  config.type = RewardType::kClassifier;
  config.model = kFolder + file;
  config.measure = measure;
  return config;
}

std::unique_ptr<Reward> MakeOrDie(const RewardConfig& config) {
  auto reward = MakeReward(config, at::kCPU);
  EXPECT_TRUE(reward.ok()) << reward.status();
  return *std::move(reward);
}

at::Tensor Stored(const std::string& name) {
  return (*SafetensorsFile::Open(kFolder + "expected.safetensors"))->Get(name).value();
}

std::shared_ptr<RewardBatch> StoredBatch() {
  return MakeBatch(Stored("generated"), Stored("inputs"), kLabels);
}

absl::StatusOr<RewardOutput> ScoreWith(const RewardConfig& config,
                                       const std::shared_ptr<RewardBatch>& batch) {
  return Score(MakeOrDie(config).get(), batch);
}

/// The measures, computed here from the logits that PyTorch computed.
struct Expected {
  explicit Expected(const std::string& name) : logits(Stored(name)) {}
  double Logit(size_t i) const { return At(i, *kLabels[i]); }
  double Margin(size_t i) const {
    double other = -1e30;
    for (int64_t c = 0; c < kNumClasses; ++c) {
      if (c != *kLabels[i]) other = std::max(other, At(i, c));
    }
    return Logit(i) - other;
  }
  double At(size_t i, int64_t c) const {
    return logits.const_data_ptr<float>()[static_cast<int64_t>(i) * kNumClasses + c];
  }
  at::Tensor logits;
};

constexpr double kTolerance = 1e-5;

TEST(ClassifierRewardTest, LogitChange) {
  const auto batch = StoredBatch();
  const auto output = ScoreWith(ConfigOf("tiny.pt", RewardMeasure::kLogitChange), batch);
  ASSERT_TRUE(output.ok()) << output.status();
  const Expected generated("generated_logits");
  const Expected input("input_logits");
  const std::vector<double> values = ValuesOf(*output);
  const std::vector<double> logits = output->parts.at("logit");
  ASSERT_EQ(values.size(), kLabels.size());
  for (size_t i = 0; i < kLabels.size(); ++i) {
    EXPECT_NEAR(values[i], generated.Logit(i) - input.Logit(i), kTolerance) << i;
    EXPECT_NEAR(logits[i], generated.Logit(i), kTolerance) << i;
  }
}

TEST(ClassifierRewardTest, Margins) {
  const auto batch = StoredBatch();
  const auto change = ScoreWith(ConfigOf("tiny.pt", RewardMeasure::kMarginChange), batch);
  const auto margin = ScoreWith(ConfigOf("tiny.pt", RewardMeasure::kLogitMaxMargin), batch);
  ASSERT_TRUE(change.ok() && margin.ok());
  const Expected generated("generated_logits");
  const Expected input("input_logits");
  for (size_t i = 0; i < kLabels.size(); ++i) {
    EXPECT_NEAR(ValuesOf(*change)[i], generated.Margin(i) - input.Margin(i), kTolerance);
    EXPECT_NEAR(ValuesOf(*margin)[i], generated.Margin(i), kTolerance);
  }
}

TEST(ClassifierRewardTest, CorrectIsTopOne) {
  const auto batch = StoredBatch();
  const auto output = ScoreWith(ConfigOf("tiny.pt", RewardMeasure::kLogitChange), batch);
  ASSERT_TRUE(output.ok());
  const std::vector<double> correct = output->parts.at("correct");
  const std::vector<double> correct_input = output->parts.at("correct_input");
  const Expected generated("generated_logits");
  const Expected input("input_logits");
  for (size_t i = 0; i < kLabels.size(); ++i) {
    EXPECT_EQ(correct[i], generated.Margin(i) > 0 ? 1 : 0) << i;
    EXPECT_EQ(correct_input[i], input.Margin(i) > 0 ? 1 : 0) << i;
  }
  // Both answers must occur, otherwise the test proves nothing.
  EXPECT_EQ(std::count(correct.begin(), correct.end(), 1.0) % 6 != 0, true);
}

TEST(ClassifierRewardTest, EveryCallGivesTheSameBits) {
  const auto batch = StoredBatch();
  const RewardConfig config = ConfigOf("tiny.pt", RewardMeasure::kLogitChange);
  const auto reward = MakeOrDie(config);
  const std::vector<double> first = ValuesOf(*Score(reward.get(), batch));
  for (int call = 0; call < 4; ++call) {
    EXPECT_EQ(ValuesOf(*Score(reward.get(), batch)), first) << call;
  }
  EXPECT_EQ(ValuesOf(*ScoreWith(config, batch)), first);
}

TEST(ClassifierRewardTest, BatchesMayBePendingAtOnce) {
  const auto batch = StoredBatch();
  const auto reversed =
      MakeBatch(batch->inputs_BCHW, batch->generated_BCHW, kLabels);  // The other way round.
  const auto reward = MakeOrDie(ConfigOf("tiny.pt", RewardMeasure::kLogitChange));
  const auto first = reward->Start(batch);
  const auto second = reward->Start(reversed);
  const std::vector<double> forth = ValuesOf(*first->Wait(RewardDeadline::max()));
  const std::vector<double> back = ValuesOf(*second->Wait(RewardDeadline::max()));
  for (size_t i = 0; i < forth.size(); ++i) EXPECT_EQ(forth[i], -back[i]) << i;
}

TEST(ClassifierRewardTest, NanInAnImageIsANanValue) {
  const auto batch = StoredBatch();
  batch->generated_BCHW = batch->generated_BCHW.clone();
  batch->generated_BCHW.select(0, 2).fill_(std::nan(""));
  const auto output = ScoreWith(ConfigOf("tiny.pt", RewardMeasure::kLogitChange), batch);
  ASSERT_TRUE(output.ok());
  for (size_t i = 0; i < kLabels.size(); ++i) {
    EXPECT_EQ(std::isnan(ValuesOf(*output)[i]), i == 2) << i;
  }
}

TEST(ClassifierRewardTest, LoadErrorsNameTheFile) {
  const TempDir dir;
  const auto error_of = [](const std::string& path) {
    RewardConfig config = ConfigOf("", RewardMeasure::kLogitChange);
    config.model = path;
    return MakeReward(config, at::kCPU).status();
  };
  const absl::Status missing = error_of(dir / "none.pt");
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("rewards.model"), HasSubstr(dir / "none.pt")));
  for (const std::string& path :
       {kFolder + "state_dict.pt", dir.Write("text.pt", "hello"), dir.Write("empty.pt", "")}) {
    const absl::Status status = error_of(path);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(HasSubstr(path), HasSubstr("not a TorchScript file"), HasSubstr("torch.jit.script")));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("frame #")));
  }
}

TEST(ClassifierRewardTest, RefusesOtherOutputs) {
  const auto batch = StoredBatch();
  const auto error_of = [&](const std::string& file) {
    const auto output = ScoreWith(ConfigOf(file, RewardMeasure::kLogitChange), batch);
    return std::string(output.status().message());
  };
  EXPECT_THAT(error_of("returns_tuple.pt"),
              AllOf(HasSubstr("returns_tuple.pt"), HasSubstr("Tuple")));
  EXPECT_THAT(error_of("one_column.pt"), AllOf(HasSubstr("[6, 1]"), HasSubstr("classes >= 2")));
  EXPECT_THAT(error_of("only_2x2.pt"), AllOf(HasSubstr("only_2x2.pt"), HasSubstr("6x3x12x10")));
}

TEST(ClassifierRewardTest, AnUnknownLabelIsTheItemsError) {
  const auto reward = MakeOrDie(ConfigOf("tiny.pt", RewardMeasure::kLogitChange));
  const auto error_of = [&](std::optional<int64_t> label) {
    const auto output = Score(
        reward.get(), MakeBatch(Stored("generated"), Stored("inputs"), {0, 1, 2, label, 0, 1}));
    EXPECT_TRUE(output.ok()) << output.status();
    for (size_t i = 0; i < kLabels.size(); ++i) {
      EXPECT_TRUE(i == 3 || output->values_B[i].ok()) << output->values_B[i].status();
    }
    for (const auto& [part, numbers] : output->parts) EXPECT_EQ(numbers.size(), kLabels.size());
    return std::string(output->values_B[3].status().message());
  };
  EXPECT_THAT(error_of(std::nullopt), AllOf(HasSubstr("'ex3'"), HasSubstr("no label")));
  EXPECT_THAT(error_of(4), AllOf(HasSubstr("'ex3'"), HasSubstr("label 4"), HasSubstr("0 to 3")));
  EXPECT_THAT(error_of(-1), HasSubstr("label -1"));
  EXPECT_EQ(error_of(3), "");
}

class CheckDatasetTest : public ::testing::Test {
 protected:
  CheckDatasetTest() {
    for (const char* name : {"a.png", "b.png"}) dir_.Write(name, *EncodePng({1, 1, {1, 2, 3}}));
  }
  std::string ErrorOf(const std::string& model, const std::string& second_line_end, int side,
                      OnRewardError on_error = OnRewardError::kFail) {
    dir_.Write("metadata.jsonl",
               "{\"file_name\": \"a.png\", \"label\": 3}\n{\"file_name\": \"b.png\"" +
                   second_line_end + "}");
    const auto dataset = Dataset::Open(dir_.path());
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    RewardConfig config = ConfigOf(model, RewardMeasure::kLogitChange);
    config.on_error = on_error;
    return std::string(MakeOrDie(config)->CheckDataset(*dataset, side, side).message());
  }
  TempDir dir_;
};

TEST_F(CheckDatasetTest, NamesTheFirstExampleThatDoesNotFit) {
  EXPECT_EQ(ErrorOf("tiny.pt", ", \"label\": 0", 32), "");
  EXPECT_THAT(ErrorOf("tiny.pt", "", 32),
              AllOf(HasSubstr("'b.png'"), HasSubstr("no label"), HasSubstr("metadata.jsonl")));
  EXPECT_THAT(ErrorOf("tiny.pt", ", \"label\": 4", 32),
              AllOf(HasSubstr("'b.png'"), HasSubstr("4")));
}

TEST_F(CheckDatasetTest, WhatIsToBeDroppedNeedsNoLabel) {
  EXPECT_EQ(ErrorOf("tiny.pt", "", 32, OnRewardError::kDrop), "");
  EXPECT_EQ(ErrorOf("tiny.pt", ", \"label\": 4", 32, OnRewardError::kDrop), "");
}

TEST_F(CheckDatasetTest, TriesTheJobsImageSize) {
  EXPECT_EQ(ErrorOf("only_2x2.pt", ", \"label\": 0", 2), "");
  EXPECT_THAT(ErrorOf("only_2x2.pt", ", \"label\": 0", 3), HasSubstr("1x3x3x3"));
  EXPECT_THAT(ErrorOf("one_column.pt", ", \"label\": 0", 2), HasSubstr("classes >= 2"));
}

}  // namespace
}  // namespace imageddpo
