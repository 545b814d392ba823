// What of ended jobs is kept.

#include "trainer/controller/files/retention.h"

#include <filesystem>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kDay = 86'400;

std::vector<EndedJob> TwoJobs() {
  return {{.id = "old",
           .end_s = 0,
           .spare_events = 5,
           .pictures = {{"samples", 100}, {"eval/epoch-000004", 10}},
           .checkpoints = {{"checkpoints/epoch-000001", 40}}},
          {.id = "new",
           .end_s = 9 * kDay,
           .spare_events = 3,
           .pictures = {{"samples", 200}},
           .checkpoints = {{"checkpoints/epoch-000002", 80}}}};
}

class DiskQuotaTest : public ServiceTest {};

TEST_F(DiskQuotaTest, AnOwnerWhoseFilesTakeItAllSubmitsNoMore) {
  cluster_.quotas.disk_bytes = 1;
  Start();
  const std::string id = WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED).id();
  Stop();
  Start();  // What was measured is known for a minute.
  v1::Job job;
  const grpc::Status refused = Submit(JobOf(1), &job);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_THAT(refused.error_message(), HasSubstr("`quotas.disk_bytes`"));
  grpc::ClientContext context;
  v1::DeleteJobRequest request;
  request.set_id(id);
  v1::DeleteJobResponse deleted;
  ASSERT_TRUE(stub().DeleteJob(&context, request, &deleted).ok());
  Stop();
  Start();
  MustSubmit(JobOf(1));
}

TEST(PlanRetention, GoesByAge) {
  RetentionRules rules = {.events_s = 20 * kDay, .pictures_s = 5 * kDay};
  std::vector<v1::Removal> plan = PlanRetention(rules, TwoJobs(), 10 * kDay, 0);
  ASSERT_THAT(plan, SizeIs(1));
  EXPECT_EQ(plan[0].id(), "old");
  EXPECT_THAT(plan[0].folders(), ElementsAre("samples", "eval/epoch-000004"));
  EXPECT_EQ(plan[0].size_bytes(), 110);
  EXPECT_EQ(plan[0].num_events(), 0);
  rules = {.events_s = 1 * kDay, .checkpoints_s = 2 * kDay};
  plan = PlanRetention(rules, TwoJobs(), 10 * kDay, 0);
  ASSERT_THAT(plan, SizeIs(2));
  EXPECT_EQ(plan[0].num_events(), 5);
  EXPECT_THAT(plan[0].folders(), ElementsAre("checkpoints/epoch-000001"));
  EXPECT_EQ(plan[1].num_events(), 3);
  EXPECT_THAT(plan[1].folders(), IsEmpty());
}

TEST(PlanRetention, FreesNoMoreThanNeededOldestFirst) {
  const RetentionRules rules = {.max_bytes = 1};
  EXPECT_THAT(PlanRetention(rules, TwoJobs(), 10 * kDay, 0), IsEmpty());
  std::vector<v1::Removal> plan = PlanRetention(rules, TwoJobs(), 10 * kDay, 111);
  ASSERT_THAT(plan, SizeIs(1));
  EXPECT_EQ(plan[0].size_bytes(), 150);  // Pictures alone are not enough.
  plan = PlanRetention(rules, TwoJobs(), 10 * kDay, 151);
  ASSERT_THAT(plan, SizeIs(2));
  EXPECT_THAT(plan[1].folders(), ElementsAre("samples"));
  EXPECT_EQ(plan[1].num_events(), 0);
}

TEST(PlanRetention, WhatAgeFreesCountsForSpace) {
  const RetentionRules rules = {.checkpoints_s = 1, .max_bytes = 1};
  const std::vector<v1::Removal> plan = PlanRetention(rules, TwoJobs(), 10 * kDay, 120);
  ASSERT_THAT(plan, SizeIs(2));
  EXPECT_THAT(plan[0].folders(), ElementsAre("checkpoints/epoch-000001"));
  EXPECT_THAT(plan[1].folders(), ElementsAre("checkpoints/epoch-000002"));
}

class RetentionTest : public ServiceTest {
 protected:
  v1::PlanRetentionResponse Plan() {
    grpc::ClientContext context;
    v1::PlanRetentionResponse plan;
    const grpc::Status status = stub().PlanRetention(&context, {}, &plan);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return plan;
  }
};

TEST_F(RetentionTest, ADryRunListsWhatGoesAndTheNewestCheckpointIsNotOfIt) {
  cluster_.retention.checkpoints_days = 1e-9;
  cluster_.retention.pictures_days = 1e-9;
  cluster_.retention.events_days = 1e-9;
  Start();
  const std::string ended = MustSubmit(JobOf(4)).id();
  WaitFor(ended, v1::SUCCEEDED);
  script_.epochs_allowed = 1;
  const std::string running = MustSubmit(JobOf(4)).id();
  WaitForEpoch(running, 1);
  dir_.Write(absl::StrCat("data/jobs/", ended, "/samples/epoch-000001/0.png"), "12345");
  const v1::PlanRetentionResponse plan = Plan();
  ASSERT_EQ(plan.removals_size(), 1);
  EXPECT_EQ(plan.removals(0).id(), ended);
  EXPECT_THAT(plan.removals(0).folders(),
              ElementsAre("samples", "checkpoints/epoch-000001", "checkpoints/epoch-000002"));
  EXPECT_GT(plan.removals(0).num_events(), 4);
  EXPECT_TRUE(std::filesystem::exists(dir_ / absl::StrCat("data/jobs/", ended, "/samples")));
}

TEST_F(RetentionTest, RemovesWhatWasPlannedAndAWatchOfTheJobStillEnds) {
  Start();
  const std::string id = MustSubmit(JobOf(4)).id();
  WaitFor(id, v1::SUCCEEDED);
  Stop();
  dir_.Write(absl::StrCat("data/jobs/", id, "/samples/0.png"), "12345");
  {
    auto store = JobStore::Open(cluster_.data_dir);
    ASSERT_TRUE(store.ok()) << store.status();
    const RetentionRules rules = {.events_s = 1, .pictures_s = 1, .checkpoints_s = 1};
    const auto refused = [](const std::string&, const std::vector<std::string>&) {
      return absl::FailedPreconditionError("it was resumed");
    };
    const double later_s = clock_.UnixSeconds() + kDay;
    EXPECT_THAT(*ApplyRetention(**store, rules, later_s, refused), IsEmpty());
    EXPECT_TRUE(std::filesystem::exists(dir_ / absl::StrCat("data/jobs/", id, "/samples")));
    const auto retire = [&](const std::string& job_id, const std::vector<std::string>& names) {
      for (const std::string& name : names) {
        std::filesystem::rename((*store)->JobDir(job_id) + "/" + name,
                                (*store)->RetiredDir(job_id, name));
      }
      return absl::OkStatus();
    };
    EXPECT_THAT(*ApplyRetention(**store, rules, later_s, retire), SizeIs(1));
    EXPECT_THAT(*ApplyRetention(**store, rules, later_s, retire), IsEmpty());  // Nothing is left.
  }
  const std::filesystem::path jobs = dir_ / "data/jobs";
  EXPECT_FALSE(std::filesystem::exists(jobs / id / "samples"));
  EXPECT_FALSE(std::filesystem::exists(jobs / id / "checkpoints/epoch-000002"));
  EXPECT_TRUE(std::filesystem::exists(jobs / id / "checkpoints/epoch-000004"));
  EXPECT_TRUE(std::filesystem::exists(jobs / id / "metrics.jsonl"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(jobs), {}), 1);
  Start();
  const std::vector<v1::JobEvent> events = Watch(id, 1);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].state().state(), v1::SUCCEEDED);
}

}  // namespace
}  // namespace imageddpo
