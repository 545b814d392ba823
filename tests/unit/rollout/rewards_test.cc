// Rollout with a reward that scores on threads of its own: the samples and scores of any other
// reward, and errors that end the job with a message for its author.
#include <gmock/gmock.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "rollout/reward/jpeg_reward.h"
#include "rollout/reward/weighted_rewards.h"
#include "tests/testing/async_reward.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RolloutRewardsTest : public RolloutFixture {
 protected:
  std::unique_ptr<Reward> Async(AsyncReward::Function function) {
    std::vector<WeightedRewards::Term> terms;
    RewardConfig config;
    config.name = "jpeg";
    terms.push_back({std::make_unique<AsyncReward>("jpeg", std::move(function)), config});
    return std::make_unique<WeightedRewards>(std::move(terms));
  }
};

absl::StatusOr<RewardOutput> ScoreJpeg(const RewardBatch& batch) {
  JpegReward reward({.type = RewardType::kJpeg, .measure = RewardMeasure::kCompressibility});
  return Score(&reward, std::make_shared<RewardBatch>(batch));
}

TEST_F(RolloutRewardsTest, AnotherImplementationGivesTheSameBits) {
  Pipeline pipeline = LoadModel();
  const auto expected = Scored(Make(&pipeline)->Sample(0, 1, 0, false));
  Pipeline other = LoadModel();
  const std::unique_ptr<Rollout> rollout = Make(&other, Async(ScoreJpeg));
  const auto batch = Scored(rollout->Sample(0, 1, 0, false));
  ASSERT_TRUE(expected.ok() && batch.ok()) << batch.status();
  EXPECT_TRUE(batch->latents.equal(expected->latents));
  EXPECT_TRUE(batch->rewards_B.equal(expected->rewards_B));
  EXPECT_TRUE(batch->parts_BP.equal(expected->parts_BP));
  EXPECT_EQ(batch->part_names, expected->part_names);
  EXPECT_TRUE(Scored(rollout->Evaluate(0, 0)).ok());
}

// Nothing is scored before both micro-batches are sampled, and the second is scored first.
TEST_F(RolloutRewardsTest, TheNextMicroBatchIsSampledWhileOneIsScored) {
  Pipeline pipeline = LoadModel();
  absl::Notification both_sampled, second_scored;
  std::atomic<int> calls = 0;
  const std::unique_ptr<Rollout> rollout = Make(&pipeline, Async([&](const RewardBatch& batch) {
    const bool is_first = calls++ == 0;
    (is_first ? second_scored : both_sampled).WaitForNotification();
    auto output = ScoreJpeg(batch);
    if (!is_first) second_scored.Notify();
    return output;
  }));
  auto first = rollout->Sample(0, 0, 0, false);
  while (calls == 0) std::this_thread::yield();
  auto second = rollout->Sample(0, 1, 0, false);
  both_sampled.Notify();
  Pipeline other = LoadModel();
  const std::unique_ptr<Rollout> in_turn = Make(&other);
  for (auto* sampled : {&first, &second}) {
    const auto batch = Scored(std::move(*sampled));
    ASSERT_TRUE(batch.ok()) << batch.status();
    const auto expected = Scored(in_turn->Sample(0, batch->micro_batch, 0, false));
    EXPECT_TRUE(batch->latents.equal(expected->latents));
    EXPECT_TRUE(batch->rewards_B.equal(expected->rewards_B));
    EXPECT_EQ(batch->image_ids, expected->image_ids);
  }
}

TEST_F(RolloutRewardsTest, TargetsAreThoseThatTheMetadataNames) {
  const auto value_of = [this](const std::string& reference, int shift) {
    std::string lines;
    for (int i = 0; i < 6; ++i) {
      lines += "{\"file_name\": \"" + std::to_string(i) + ".png\", \"target_file_name\": \"" +
               std::to_string((i + shift) % 6) + ".png\"}\n";
    }
    dir_.Write("data/metadata.jsonl", lines);
    v1::RewardSpec reward;
    reward.set_type("l1");
    reward.set_reference(reference);
    job_.mutable_rewards()->Clear();
    *job_.add_rewards() = reward;
    job_.clear_eval();
    Pipeline pipeline = LoadModel();
    const auto batch = Scored(Make(&pipeline)->Sample(0, 0, 0, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return batch->rewards_B;
  };
  const at::Tensor to_input_B = value_of("input", 0);
  EXPECT_TRUE(value_of("target", 0).equal(to_input_B)) << "every image is its own target";
  EXPECT_FALSE(value_of("target", 1).equal(to_input_B));
}

TEST_F(RolloutRewardsTest, DataWithoutTargetsIsRefusedAtTheStart) {
  job_.mutable_rewards(0)->set_type("psnr");
  job_.mutable_rewards(0)->clear_measure();
  job_.mutable_rewards(0)->clear_jpeg_quality();
  job_.mutable_rewards(0)->set_reference("target");
  Pipeline pipeline = LoadModel();
  const absl::Status status =
      Rollout::Create(Judged(job_), &pipeline, *MakeJobReward(Judged(job_), at::kCPU), at::kCPU, {})
          .status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("reward 'psnr'"), HasSubstr("'0.png'"), HasSubstr("no target")));
}

TEST_F(RolloutRewardsTest, AnItemsErrorEndsTheJobNamingImageRewardAndRemedy) {
  Pipeline pipeline = LoadModel();
  std::string image;
  const std::unique_ptr<Rollout> rollout = Make(&pipeline, Async([&](const RewardBatch& batch) {
    auto output = ScoreJpeg(batch);
    output->values_B[2] = absl::InvalidArgumentError("cannot read grey images");
    image = batch.examples[2].id;
    return output;
  }));
  const absl::Status status = Scored(rollout->Sample(0, 0, 0, false)).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("reward 'jpeg' of image '" + image + "': cannot read grey images"),
                    HasSubstr("remove the image"), HasSubstr("train.learning_rate")));
}

TEST_F(RolloutRewardsTest, ATimeoutIsAnErrorThatNamesTheReward) {
  Pipeline pipeline = LoadModel();
  absl::Notification may_finish;
  const std::unique_ptr<Rollout> rollout = Make(&pipeline, Async([&](const RewardBatch& batch) {
    may_finish.WaitForNotification();
    return ScoreJpeg(batch);
  }),
                                                {}, std::chrono::milliseconds(10));
  const absl::Status status = Scored(rollout->Sample(0, 0, 0, false)).status();
  may_finish.Notify();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("reward 'jpeg'"));
}

}  // namespace
}  // namespace imageddpo
