#include "trainer/loop/eval_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace imageddpo {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

v1::EvalBatch Batch(int64_t first, const std::vector<double>& rewards) {
  v1::EvalBatch batch;
  batch.set_first_sample(first);
  batch.add_part_names("size");
  for (size_t i = 0; i < rewards.size(); ++i) {
    batch.add_image_ids("image " + std::to_string(first + static_cast<int64_t>(i)));
    batch.add_rewards(rewards[i]);
    batch.add_parts(-rewards[i]);
  }
  return batch;
}

v1::EvalReport Report(int64_t num_images, const std::vector<v1::EvalBatch>& batches) {
  EvalSummary summary(num_images);
  for (const v1::EvalBatch& batch : batches) summary.Add(batch);
  v1::EvalReport report;
  summary.Report(&report);
  return report;
}

TEST(EvalSummary, StandardErrorOfImages) {
  const v1::EvalReport report = Report(4, {Batch(0, {1, 2, 3}), Batch(3, {6})});
  EXPECT_EQ(report.num_images(), 4);
  EXPECT_DOUBLE_EQ(report.reward_mean(), 3);
  // Deviations −2, −1, 0, 3: variance 14 / 3.
  EXPECT_DOUBLE_EQ(report.reward_stderr(), std::sqrt(14.0 / 3 / 4));
  EXPECT_DOUBLE_EQ(report.parts_mean().at("size"), -3);
  EXPECT_DOUBLE_EQ(report.parts_stderr().at("size"), report.reward_stderr());
}

TEST(EvalSummary, SeedsAreAveragedBeforeImagesAreCompared) {
  // Images 1, 2, 3 with seeds that scatter by ±10: the error is that of the means 1, 2, 3.
  const v1::EvalReport report =
      Report(3, {Batch(0, {11, 12}), Batch(2, {13, -9}), Batch(4, {-8, -7})});
  EXPECT_DOUBLE_EQ(report.reward_mean(), 2);
  EXPECT_DOUBLE_EQ(report.reward_stderr(), std::sqrt(1.0 / 3));
}

TEST(EvalSummary, SamplesWithoutANumberAreLeftOut) {
  const v1::EvalReport report = Report(3, {Batch(0, {1, kNone, 3})});
  EXPECT_DOUBLE_EQ(report.reward_mean(), 2);
  EXPECT_DOUBLE_EQ(report.reward_stderr(), 1);
  EXPECT_EQ(Report(1, {Batch(0, {5})}).reward_stderr(), 0);
}

TEST(EvalSummary, RowsNameTheSeedWhereThereAreSeveral) {
  EXPECT_EQ(EvalSummary::Rows(Batch(0, {1}), 3, 1),
            "{\"id\":\"image 0\",\"reward\":1.0,\"size\":-1.0}\n");
  EXPECT_EQ(EvalSummary::Rows(Batch(2, {1, 2}), 3, 2),
            "{\"id\":\"image 2\",\"reward\":1.0,\"seed\":0,\"size\":-1.0}\n"
            "{\"id\":\"image 3\",\"reward\":2.0,\"seed\":1,\"size\":-2.0}\n");
}

}  // namespace
}  // namespace imageddpo
