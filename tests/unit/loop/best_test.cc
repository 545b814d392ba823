// What goes with an evaluation where the LoRA of the best one is kept.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/io/safetensors.h"
#include "common/trajectory/record/tags.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/small_job.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

/// Lets the leader collect the evaluation of one image before the first epoch.
absl::Status Evaluate(SmallGang* gang, const std::string& part, double number) {
  gang->leader.rank->PublishWeights(0);
  gang->rollout.TakeAndAnswer(gang->num_parameters());
  const absl::Status receipts = gang->leader.rank->CheckReceipts(0);
  if (!receipts.ok()) return receipts;
  v1::EvalBatch eval;
  eval.set_num_images(1);
  eval.add_image_ids("image");
  eval.add_rewards(3);
  eval.add_part_names(part);
  eval.add_parts(number);
  gang->rollout.Answer(0, kEvalTag, eval);
  return gang->leader.rank->CollectEvaluations();
}

v1::JobSpec JobWith(const std::string& best) {
  v1::JobSpec job = SmallJob();
  job.mutable_eval()->set_path("held-out");
  job.mutable_eval()->set_batch_size(1);
  if (!best.empty()) job.mutable_checkpoint()->set_best(best);
  return job;
}

TEST(Best, ItsNumberAndTheLoraGoWithTheEvaluation) {
  for (const char* best : {"", "reward", "jpeg.bytes"}) {
    SmallGang gang(JobWith(best));
    const absl::Status status = Evaluate(&gang, "jpeg.bytes", 7);
    ASSERT_TRUE(status.ok()) << status;
    const v1::EvalReport& report = gang.leader.reports.back().eval();
    if (std::string(best).empty()) {
      EXPECT_TRUE(report.best_lora().empty());
      continue;
    }
    EXPECT_EQ(report.best_value(), std::string(best) == "reward" ? 3 : 7);
    const auto lora = ParseSafetensors(report.best_lora(), "the LoRA");
    ASSERT_TRUE(lora.ok()) << lora.status();
    EXPECT_FALSE(lora->empty());
  }
}

TEST(Best, ANumberThatTheEvaluationDoesNotHaveEndsTheJob) {
  SmallGang gang(JobWith("jpeg.bytes"));
  const absl::Status status = Evaluate(&gang, "jpeg.byte", 7);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("it has jpeg.byte, reward; did you mean `jpeg.byte`?"));
}

}  // namespace
}  // namespace imageddpo
