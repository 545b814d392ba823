#include "trainer/algo/loss_scaler.h"

#include <gtest/gtest.h>

namespace imageddpo {
namespace {

using Verdict = LossScaler::Verdict;

TEST(LossScaler, HalvesAndSkipsAtAnOverflow) {
  LossScaler scaler(true);
  EXPECT_EQ(scaler.scale(), 65536);
  EXPECT_EQ(scaler.Judge(true), Verdict::kStep);
  EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.scale(), 32768);
  EXPECT_EQ(scaler.skipped(), 1);
  EXPECT_EQ(scaler.Judge(true), Verdict::kStep);
  EXPECT_EQ(scaler.scale(), 32768);
}

TEST(LossScaler, DoublesAfterManyGoodUpdatesInARow) {
  LossScaler scaler(true);
  for (int64_t i = 1; i < LossScaler::kUpdatesToGrow; ++i) scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), 65536);
  scaler.Judge(false);  // Starts the count of good updates again.
  for (int64_t i = 1; i < LossScaler::kUpdatesToGrow; ++i) scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), 32768);
  EXPECT_EQ(scaler.Judge(true), Verdict::kStep);
  EXPECT_EQ(scaler.scale(), 65536);
  for (int64_t i = 0; i < 100 * LossScaler::kUpdatesToGrow; ++i) scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), LossScaler::kLargestScale);
}

TEST(LossScaler, GivesUpWhereNoScaleIsSmallEnough) {
  LossScaler scaler(true);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_EQ(scaler.Judge(false), Verdict::kStop);
  EXPECT_EQ(scaler.skipped(), 16);
}

TEST(LossScaler, SkipsNothingWhereItIsOff) {
  LossScaler scaler(false);
  for (int64_t i = 0; i < 2 * LossScaler::kUpdatesToGrow; ++i) {
    EXPECT_EQ(scaler.Judge(true), Verdict::kStep);
  }
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_EQ(scaler.Judge(false), Verdict::kStop);
}

TEST(LossScaler, GoesOnFromACheckpoint) {
  LossScaler scaler(true);
  scaler.Judge(false);
  for (int64_t i = 1; i < LossScaler::kUpdatesToGrow; ++i) scaler.Judge(true);
  LossScaler resumed(true);
  resumed.Restore(nlohmann::json::parse(scaler.ToJson().dump()));
  EXPECT_EQ(resumed.scale(), 32768);
  EXPECT_EQ(resumed.skipped(), 1);
  resumed.Judge(true);
  EXPECT_EQ(resumed.scale(), 65536);
  EXPECT_THROW(resumed.Restore(nlohmann::json::object()), nlohmann::json::exception);
  resumed.Restore({{"scale", -5}, {"good_updates", 0}, {"skipped_updates", 0}});
  EXPECT_EQ(resumed.scale(), 1);
}

}  // namespace
}  // namespace imageddpo
