// What the store keeps beside jobs, and what it removes of those that have ended.

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/controller/store/job_store_fixture.h"

namespace imageddpo {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(JobStoreTest, KeepsWhatOwnersHaveTakenAndTheTimeOfJobs) {
  JobRecord record = Insert();
  record.job.set_max_seconds(3.5);
  record.job.mutable_progress()->set_run_seconds(1.25);
  ASSERT_TRUE(Update(&record, v1::RUNNING).ok());
  ASSERT_TRUE(store_->SetOwnersUsage({{"old", 9, 1}}).ok());
  ASSERT_TRUE(store_->SetOwnersUsage({{"alice", 12.5, 1700000000.5}, {"bob", 1, 2}}).ok());
  Reopen();
  EXPECT_EQ(store_->Get(record.job.id())->job.max_seconds(), 3.5);
  EXPECT_EQ(store_->Get(record.job.id())->job.progress().run_seconds(), 1.25);
  const absl::StatusOr<std::vector<OwnerUsage>> usage = store_->OwnersUsage();
  ASSERT_TRUE(usage.ok()) << usage.status();
  ASSERT_THAT(*usage, SizeIs(2));
  EXPECT_EQ(usage->front().owner, "alice");
  EXPECT_EQ(usage->front().rank_seconds, 12.5);
  EXPECT_EQ(usage->front().at_s, 1700000000.5);
}

TEST_F(JobStoreTest, OldEventsGoInPartsAndTheLastStays) {
  JobRecord record = Insert();
  std::vector<v1::JobEvent> events;
  for (int i = 0; i < 2500; ++i) {
    events.emplace_back().set_number(++record.last_event);
    events.back().mutable_epoch()->set_epoch(i);
  }
  ASSERT_TRUE(store_->Update(record, events).ok());
  ASSERT_TRUE(store_->RemoveEvents(record.job.id()).ok());
  EXPECT_EQ(store_->Events(record.job.id(), 1, 9999)->events.size(), 2501u) << "it has not ended";
  ASSERT_TRUE(Update(&record, v1::SUCCEEDED).ok());
  ASSERT_TRUE(store_->RemoveEvents(record.job.id()).ok());
  const auto page = store_->Events(record.job.id(), 1, 9999);
  ASSERT_THAT(page->events, SizeIs(1));
  EXPECT_EQ(page->events[0].number(), 2502);
  EXPECT_TRUE(page->ended);
  EXPECT_TRUE(store_->RemoveEvents(record.job.id()).ok());
}

TEST_F(JobStoreTest, EndedJobsComeInTheOrderOfTheirEnd) {
  constexpr int kJobs = 210;  // More than one part.
  for (int i = 0; i < kJobs; ++i) {
    JobRecord record = Insert();
    record.job.set_owner(i % 2 == 0 ? "alice" : "bob");
    record.job.mutable_end_time()->set_seconds(1'700'000'000 + (i * 7) % kJobs);
    ASSERT_TRUE(Update(&record, i == 3 ? v1::RUNNING : v1::FAILED).ok());
  }
  const auto ended = store_->EndedJobs();
  ASSERT_TRUE(ended.ok()) << ended.status();
  ASSERT_THAT(*ended, SizeIs(kJobs - 1));
  for (size_t i = 1; i < ended->size(); ++i) EXPECT_LE((*ended)[i - 1].end_s, (*ended)[i].end_s);
  EXPECT_EQ((*ended)[0].id, "job-000001");
  EXPECT_EQ((*ended)[0].spare_events, 1);
  const auto owners = store_->Owners();
  ASSERT_TRUE(owners.ok()) << owners.status();
  EXPECT_THAT(*owners, SizeIs(kJobs));
  EXPECT_EQ(owners->at("job-000001"), "alice");
  EXPECT_EQ(owners->at("job-000210"), "bob");
}

TEST_F(JobStoreTest, DrainsAreKept) {
  EXPECT_THAT(*store_->Drains(), IsEmpty());
  const std::set<std::string> drains = {"2@a", "*@b"};
  ASSERT_TRUE(store_->SetDrains(drains).ok());
  Reopen();
  EXPECT_EQ(*store_->Drains(), drains);
  ASSERT_TRUE(store_->SetDrains({}).ok());
  EXPECT_THAT(*store_->Drains(), IsEmpty());
}

}  // namespace
}  // namespace imageddpo
