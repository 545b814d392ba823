// What the leader makes of the images that the rollout ranks have found: played by the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "common/trajectory/record/tags.h"
#include "tests/unit/loop/small_gang.h"
#include "tests/unit/loop/small_job.h"
#include "trainer/loop/trainer_rank.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

TEST(DataReport, TheLeaderTellsOfTheImagesAndKeepsThemInCheckpoints) {
  v1::JobSpec job = SmallJob();
  job.mutable_data()->set_on_error("skip");
  SmallGang gang(job);
  v1::DataReport report;
  report.set_job_id("job-1");
  report.set_num_images(1980);
  report.set_num_listed(2000);
  report.set_sha256("abc");
  gang.rollout.Answer(1, kDataTag, report);
  report.set_state(R"({"sha256": "abc", "skipped": ["a.png"]})");
  gang.rollout.Answer(0, kDataTag, report);
  ASSERT_TRUE(gang.leader.rank->TakeDataReports().ok());
  ASSERT_EQ(gang.leader.Count(v1::WorkerMessage::kData), 1);
  EXPECT_EQ(gang.leader.reports.back().data().num_images(), 1980);
  EXPECT_EQ(gang.leader.reports.back().data().state(), "");

  gang.rollout.Send(gang.Sample(0, 0));
  ASSERT_TRUE(gang.leader.rank->TrainEpoch(0).ok());
  EXPECT_EQ(gang.leader.last_epoch().metrics().images_skipped(), 20);
  EXPECT_EQ(nlohmann::json::parse(gang.leader.last_epoch().metrics_rows(0))["images_skipped"], 20);
  ASSERT_TRUE(gang.leader.rank->SendCheckpoint().ok());
  const auto state = nlohmann::json::parse(gang.leader.reports.back().checkpoint().state());
  EXPECT_EQ(state["data"], nlohmann::json::parse(report.state()));
}

TEST(DataReport, RolloutRanksWithOtherImagesAreRefused) {
  SmallGang gang(SmallJob());
  v1::DataReport report;
  report.set_num_images(8);
  report.set_sha256("abc");
  gang.rollout.Answer(0, kDataTag, report);
  report.set_num_images(7);
  report.set_sha256("abd");
  gang.rollout.Answer(1, kDataTag, report);
  const absl::Status status = gang.leader.rank->TakeDataReports();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("one has 8, another 7"));
}

}  // namespace
}  // namespace imageddpo
