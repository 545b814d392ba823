#include "trainer/controller/store/job_store.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/controller/store/job_store_fixture.h"
#include "trainer/controller/store/job_store_schema.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(JobRecord, IdsSortByNumberForAMillionJobs) {
  EXPECT_EQ(JobIdOf(12), "job-000012");
  EXPECT_EQ(JobIdOf(1234567), "job-1234567");
}

TEST_F(JobStoreTest, GivesBackEveryField) {
  JobRecord record = Insert("request");
  v1::Job& job = record.job;
  EXPECT_EQ(job.id(), "job-000001");
  EXPECT_EQ(job.output_dir(), dir_ / "data/jobs/job-000001");
  job.set_state_reason("because");
  job.mutable_start_time()->set_seconds(1700000001);
  job.mutable_start_time()->set_nanos(5000000);
  job.mutable_end_time()->set_seconds(1700000002);
  job.mutable_progress()->set_epoch(3);
  job.set_resume_count(2);
  job.set_resumed_from_epoch(-1);
  job.add_warnings("one");
  job.add_warnings("zwei: \"ä\"\n");
  job.set_topology("colocated 1");
  job.set_topology_reason("there is no other choice");
  record.model.emplace();
  record.model->unet.flops = 0.1;
  record.model->text.parameters = 3;
  record.model->latent = {8, 16};
  record.model->context_width = 768;
  job.set_lora_path("/x");
  record.epochs_reported = 3;
  record.eval_reported = -1;
  record.checkpoint_reported = 2;
  record.restarts_without_epoch = 1;
  ASSERT_TRUE(Update(&record, v1::RUNNING).ok());

  Reopen();
  const auto read = store_->Get("job-000001");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->job.SerializeAsString(), job.SerializeAsString()) << read->job.DebugString();
  ASSERT_TRUE(read->model.has_value());
  EXPECT_EQ(read->model->unet.flops, 0.1);
  EXPECT_EQ(read->model->text.parameters, 3);
  EXPECT_EQ(read->model->latent, (PictureSize{8, 16}));
  EXPECT_EQ(read->model->context_width, 768);
  EXPECT_EQ(read->number, 1);
  EXPECT_EQ(read->request_id, "request");
  EXPECT_EQ(read->request_sha256, "hash");
  EXPECT_EQ(read->last_event, 2);
  EXPECT_EQ(read->epochs_reported, 3);
  EXPECT_EQ(read->eval_reported, -1);
  EXPECT_EQ(read->checkpoint_reported, 2);
  EXPECT_EQ(read->restarts_without_epoch, 1);
}

TEST_F(JobStoreTest, FindsListsAndCounts) {
  Insert("a");
  Insert();
  JobRecord third = Insert();
  ASSERT_TRUE(Update(&third, v1::SUCCEEDED).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Get("job-000009").status()));
  EXPECT_EQ(store_->FindByRequestId("a").value()->job.id(), "job-000001");
  EXPECT_FALSE(store_->FindByRequestId("b").value().has_value());
  const auto newest = store_->List(std::numeric_limits<int64_t>::max(), 2).value();
  ASSERT_THAT(newest, SizeIs(2));
  EXPECT_EQ(newest[0].number, 3);
  EXPECT_EQ(newest[1].number, 2);
  EXPECT_EQ(store_->List(2, 10).value().at(0).number, 1);
  const auto unfinished = store_->Unfinished().value();
  ASSERT_THAT(unfinished, SizeIs(2));
  EXPECT_EQ(unfinished[0].number, 1);
  EXPECT_EQ(store_->CountByState().value().at(v1::QUEUED), 2);
  EXPECT_EQ(store_->CountByState().value().at(v1::SUCCEEDED), 1);
}

TEST_F(JobStoreTest, ARequestIdIsTakenOnce) {
  Insert("a");
  JobRecord again;
  again.request_id = "a";
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Insert(&again, {v1::JobEvent()})));
  EXPECT_EQ(again.number, 0);
  EXPECT_EQ(Insert().number, 2);  // Nothing of it stayed, no number was lost.
}

TEST_F(JobStoreTest, EventsComeInPages) {
  JobRecord record = Insert();
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Update(&record, v1::RUNNING).ok());
  auto page = store_->Events(record.job.id(), 1, 4).value();
  ASSERT_THAT(page.events, SizeIs(4));
  EXPECT_EQ(page.events[0].number(), 1);
  EXPECT_FALSE(page.ended);
  ASSERT_TRUE(Update(&record, v1::SUCCEEDED).ok());
  page = store_->Events(record.job.id(), 5, 5).value();
  EXPECT_EQ(page.events.back().number(), 9);
  EXPECT_FALSE(page.ended);
  page = store_->Events(record.job.id(), 10, 5).value();
  EXPECT_THAT(page.events, SizeIs(1));
  EXPECT_TRUE(page.ended);
  page = store_->Events(record.job.id(), 11, 5).value();
  EXPECT_THAT(page.events, IsEmpty());
  EXPECT_TRUE(page.ended);
  EXPECT_TRUE(absl::IsNotFound(store_->Events("job-9", 1, 5).status()));
}

TEST_F(JobStoreTest, AChangeAndItsEventAreOne) {
  JobRecord record = Insert();
  record.job.set_state(v1::STARTING);
  v1::JobEvent large;  // Of the change's two rows only the event finds no room.
  large.set_number(2);
  large.mutable_state()->set_reason(std::string(100000, 'x'));
  ASSERT_TRUE(store_->LimitSize(1).ok());
  EXPECT_FALSE(store_->Update(record, {large}).ok());
  ASSERT_TRUE(store_->LimitSize(0).ok());
  EXPECT_EQ(store_->Get(record.job.id())->job.state(), v1::QUEUED);
}

TEST_F(JobStoreTest, AFullDiskIsAnErrorAndNothingIsLost) {
  JobRecord record = Insert();
  ASSERT_TRUE(store_->LimitSize(1).ok());
  record.job.set_state_reason(std::string(100000, 'x'));
  const absl::Status status = Update(&record, v1::RUNNING);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("free space"));
  EXPECT_EQ(store_->Get(record.job.id())->job.state(), v1::QUEUED);
  ASSERT_TRUE(store_->LimitSize(0).ok());
  EXPECT_TRUE(store_->Update(record, {}).ok());
  EXPECT_TRUE(store_->CheckWritable().ok());
  EXPECT_EQ(store_->Get(record.job.id())->job.state(), v1::RUNNING);
}

TEST_F(JobStoreTest, OneProcessOwnsTheDirectory) {
  const absl::Status second = JobStore::Open(dir_ / "data").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("pid ", ::getpid())));

  // Another process sees the same; and the lock goes with its owner, however that ends.
  const auto try_in_child = [this] {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(JobStore::Open(dir_ / "data").ok() ? 0 : 1);
    int wait_status = 0;
    ::waitpid(child, &wait_status, 0);
    return WEXITSTATUS(wait_status) == 0;
  };
  EXPECT_FALSE(try_in_child());
  store_.reset();
  EXPECT_TRUE(try_in_child());
  Reopen();
}

TEST_F(JobStoreTest, RefusesAStoreOfANewerVersion) {
  store_.reset();
  {
    auto database = SqliteDatabase::Open(dir_ / "data/jobs.db");
    ASSERT_TRUE(database.ok()) << database.status();
    ASSERT_TRUE((*database)
                    ->Execute(absl::StrCat("PRAGMA user_version = ", JobStoreSchemaVersion() + 1))
                    .ok());
  }
  const absl::Status status = JobStore::Open(dir_ / "data").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("newer"));
  {
    auto database = SqliteDatabase::Open(dir_ / "data/jobs.db");
    ASSERT_TRUE(
        (*database)->Execute(absl::StrCat("PRAGMA user_version = ", JobStoreSchemaVersion())).ok());
  }
  Reopen();
}

TEST_F(JobStoreTest, KeepsTheBestEvaluation) {
  JobRecord record = Insert();
  record.job.set_best_lora_path("checkpoints/best");
  record.job.set_best_epoch(3);
  record.job.set_best_value(-0.1);
  ASSERT_TRUE(Update(&record, v1::RUNNING).ok());
  Reopen();
  const absl::StatusOr<JobRecord> stored = store_->Get(record.job.id());
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->job.best_lora_path(), "checkpoints/best");
  EXPECT_EQ(stored->job.best_epoch(), 3);
  EXPECT_EQ(stored->job.best_value(), -0.1);
}

TEST_F(JobStoreTest, BringsAStoreOfTheFirstVersionUpToDate) {
  const std::string id = Insert().job.id();
  store_.reset();
  {
    auto database = SqliteDatabase::Open(dir_ / "data/jobs.db");
    ASSERT_TRUE(database.ok()) << database.status();
    const absl::Status status = (*database)->Execute(
        "ALTER TABLE jobs DROP COLUMN best_lora_path; ALTER TABLE jobs DROP COLUMN best_epoch; "
        "ALTER TABLE jobs DROP COLUMN best_value; ALTER TABLE jobs DROP COLUMN owner; "
        "ALTER TABLE jobs DROP COLUMN topology_reason; ALTER TABLE jobs DROP COLUMN model_count; "
        "ALTER TABLE jobs DROP COLUMN priority; ALTER TABLE jobs DROP COLUMN labels; "
        "ALTER TABLE jobs DROP COLUMN branched_from; "
        "ALTER TABLE jobs DROP COLUMN branched_from_epoch; "
        "ALTER TABLE jobs DROP COLUMN max_seconds; DROP TABLE owner_usage; PRAGMA user_version = "
        "1");
    ASSERT_TRUE(status.ok()) << status;
  }
  Reopen();
  const absl::StatusOr<JobRecord> stored = store_->Get(id);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->job.spec().name(), "n");
  EXPECT_EQ(stored->job.best_lora_path(), "");
  EXPECT_FALSE(stored->model.has_value());
  EXPECT_EQ(stored->job.priority(), 0);
  EXPECT_THAT(stored->job.labels(), IsEmpty());
}

TEST_F(JobStoreTest, BringsAStoreOfVersion3UpToDate) {
  store_.reset();
  std::filesystem::remove_all(dir_ / "data");
  std::filesystem::create_directories(dir_ / "data");
  {
    const char* source = std::getenv("IMAGEDDPO_SOURCE_DIR");
    ASSERT_NE(source, nullptr);
    std::ifstream file(absl::StrCat(source, "/tests/data/store/jobs-v3.sql"));
    const std::string sql((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    ASSERT_FALSE(sql.empty());
    auto database = SqliteDatabase::Open(dir_ / "data/jobs.db");
    ASSERT_TRUE(database.ok()) << database.status();
    const absl::Status status = (*database)->Execute(sql);
    ASSERT_TRUE(status.ok()) << status;
  }
  Reopen();
  const absl::StatusOr<JobRecord> ended = store_->Get("job-000001");
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->job.state(), v1::SUCCEEDED);
  EXPECT_EQ(ended->job.spec().seed(), 7u);
  EXPECT_EQ(ended->job.progress().samples_seen(), 256);
  EXPECT_EQ(ended->job.end_time().seconds(), 1700000009);
  EXPECT_EQ(ended->job.warnings(0), "slow disk");
  EXPECT_EQ(ended->job.best_value(), 0.5);
  EXPECT_EQ(ended->job.owner(), "alice");
  EXPECT_EQ(ended->job.priority(), 5);
  EXPECT_EQ(ended->job.labels().at("sweep"), "rates");
  EXPECT_EQ(ended->job.max_seconds(), 0);
  EXPECT_THAT(store_->Events("job-000001", 1, 9)->events, SizeIs(2));
  EXPECT_EQ((*store_->FindByRequestId("first"))->number, 1);
  const absl::StatusOr<std::vector<JobRecord>> unfinished = store_->Unfinished();
  ASSERT_TRUE(unfinished.ok()) << unfinished.status();
  ASSERT_THAT(*unfinished, SizeIs(1));
  EXPECT_EQ(unfinished->front().job.state_reason(), "paused by request");
  EXPECT_EQ(unfinished->front().job.branched_from(), "job-000001");
  EXPECT_THAT(*store_->OwnersUsage(), IsEmpty());
  EXPECT_EQ(Insert().number, 3);  // Numbers go on.
}

TEST_F(JobStoreTest, KeepsPriorityLabelsAndWhereAJobWasBranched) {
  JobRecord record = Insert();
  record.job.set_priority(-3);
  (*record.job.mutable_labels())["sweep"] = "zwei: \"ä\"";
  record.job.set_branched_from("job-000007");
  record.job.set_branched_from_epoch(12);
  ASSERT_TRUE(Update(&record, v1::RUNNING).ok());
  Reopen();
  const absl::StatusOr<JobRecord> stored = store_->Get(record.job.id());
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->job.priority(), -3);
  EXPECT_EQ(stored->job.labels().at("sweep"), "zwei: \"ä\"");
  EXPECT_EQ(stored->job.branched_from(), "job-000007");
  EXPECT_EQ(stored->job.branched_from_epoch(), 12);
}

TEST_F(JobStoreTest, ARemovedJobLeavesNothingAndItsNumberIsNotUsedAgain) {
  const JobRecord kept = Insert(), removed = Insert("request");
  ASSERT_TRUE(store_->Remove(removed.number).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Get(removed.job.id()).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Events(removed.job.id(), 1, 5).status()));
  EXPECT_THAT(store_->Events(kept.job.id(), 1, 5)->events, SizeIs(1));
  Reopen();
  EXPECT_EQ(Insert("request").number, 3);
}

TEST_F(JobStoreTest, SaysWhatIsWrongWithAFileThatIsNoStore) {
  dir_.Write("junk/jobs.db", std::string(10000, 'j'));
  const absl::Status status = JobStore::Open(dir_ / "junk").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("jobs.db"));
  dir_.Write("file", "");
  EXPECT_FALSE(JobStore::Open(dir_ / "file").ok());
}

TEST_F(JobStoreTest, UsesWalWithFullSync) {
  store_.reset();
  auto database = SqliteDatabase::Open(dir_ / "data/jobs.db");
  ASSERT_TRUE(database.ok());
  const auto pragma = [&](const std::string& name) {
    auto statement = (*database)->Prepare("PRAGMA " + name);
    EXPECT_TRUE(statement->Step().value());
    return statement->Text(0);
  };
  EXPECT_EQ(pragma("journal_mode"), "wal");
  EXPECT_EQ(pragma("locking_mode"), "exclusive");
  EXPECT_EQ(pragma("synchronous"), "2");
  // Somebody else's connection is told so and does not wait for ever.
  const absl::Status other = SqliteDatabase::Open(dir_ / "data/jobs.db").status();
  EXPECT_TRUE(absl::IsUnavailable(other)) << other;
}

}  // namespace
}  // namespace imageddpo
