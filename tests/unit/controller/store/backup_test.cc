#include "trainer/controller/store/backup.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BackupTest : public testing::Test {
 protected:
  BackupTest() {
    auto store = JobStore::Open(dir_ / "data");
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    JobRecord record;
    record.request_id = "first";
    record.job.set_state(v1::PAUSED);
    record.job.mutable_spec()->set_name("kept");
    v1::JobEvent event;
    event.mutable_state()->set_state(v1::PAUSED);
    EXPECT_TRUE(store_->Insert(&record, {event}).ok());
    for (const char* name :
         {"metrics.jsonl", "checkpoints/epoch-000001/MANIFEST", "checkpoints/epoch-000002/MANIFEST",
          "checkpoints/epoch-000010/MANIFEST", "checkpoints/best-epoch-000001/MANIFEST",
          "samples/epoch-000001/0.png", "checkpoints/.epoch-000011.tmp/MANIFEST"}) {
      dir_.Write(absl::StrCat("data/jobs/job-000001/", name), name);
    }
  }
  absl::StatusOr<BackupReport> BackUp(const std::string& target, BackupFiles files) {
    const absl::StatusOr<std::string> snapshot = store_->BackUp();
    return snapshot.ok() ? WriteBackup(dir_ / "data", *snapshot, dir_ / target, files)
                         : absl::StatusOr<BackupReport>(snapshot.status());
  }
  bool Exists(const std::string& name) const { return fs::exists(dir_ / name); }
  std::string Refusal(const std::string& backup, const std::string& data_dir) {
    return std::string(RestoreBackup(dir_ / backup, dir_ / data_dir).status().message());
  }

  TempDir dir_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(BackupTest, ARestoredStoreHasTheJobsAndTheirNewestCheckpoints) {
  const auto report = BackUp("backup", BackupFiles::kNewest);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->num_files, 5);  // jobs.db, rows, two checkpoints, the best one.
  EXPECT_FALSE(Exists("backup/jobs/job-000001/checkpoints/epoch-000001"));
  EXPECT_FALSE(Exists("backup/jobs/job-000001/samples"));
  JobRecord later;  // Not in the backup.
  later.job.set_state(v1::QUEUED);
  ASSERT_TRUE(store_->Insert(&later, {}).ok());

  const auto restored = RestoreBackup(dir_ / "backup", dir_ / "new");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->num_files, 5);
  EXPECT_EQ(dir_.Read("new/jobs/job-000001/checkpoints/epoch-000010/MANIFEST"),
            "checkpoints/epoch-000010/MANIFEST");
  auto store = JobStore::Open(dir_ / "new");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->Get("job-000001")->job.spec().name(), "kept");
  EXPECT_EQ((*store)->Events("job-000001", 1, 9)->events.size(), 1u);
  EXPECT_EQ((*store)->List(1000, 1000)->size(), 1u);
}

TEST_F(BackupTest, EachSnapshotHasAFileOfItsOwn) {
  const auto first = store_->BackUp(), second = store_->BackUp();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(*first, *second);
  EXPECT_TRUE(fs::exists(*first) && fs::exists(*second));
  fs::last_write_time(*first, fs::file_time_type::clock::now() - std::chrono::hours(2));
  store_.reset();
  store_ = *JobStore::Open(dir_ / "data");
  EXPECT_FALSE(fs::exists(*first)) << "its caller has died";
  EXPECT_TRUE(fs::exists(*second)) << "may still be copied";
}

TEST_F(BackupTest, AllFilesOrNone) {
  EXPECT_EQ(BackUp("all", BackupFiles::kAll)->num_files, 7);  // Without what is being written.
  EXPECT_EQ(dir_.Read("all/jobs/job-000001/samples/epoch-000001/0.png"),
            "samples/epoch-000001/0.png");
  EXPECT_EQ(BackUp("none", BackupFiles::kNone)->num_files, 1);
  // What grows is a copy: a job that goes on does not change the backup.
  dir_.Write("data/jobs/job-000001/metrics.jsonl", "more");
  EXPECT_EQ(dir_.Read("all/jobs/job-000001/metrics.jsonl"), "metrics.jsonl");
}

TEST_F(BackupTest, WhatIsNotWholeIsNotRestored) {
  ASSERT_TRUE(BackUp("backup", BackupFiles::kNewest).ok());
  const std::string rows = "backup/jobs/job-000001/metrics.jsonl";
  dir_.Write(rows, "cut");
  EXPECT_THAT(Refusal("backup", "new"), HasSubstr("metrics.jsonl is missing or has another size"));
  dir_.Write(rows, "metrics.jsonl");
  std::string database = dir_.Read("backup/jobs.db");
  database[database.size() / 2] ^= 1;
  dir_.Write("backup/jobs.db", database);
  EXPECT_THAT(Refusal("backup", "new"), HasSubstr("jobs.db has changed"));
  EXPECT_FALSE(Exists("new/jobs.db"));
  EXPECT_TRUE(absl::IsNotFound(RestoreBackup(dir_ / "none", dir_ / "new").status()));
}

TEST_F(BackupTest, NothingIsWrittenOverJobsOrIntoAFullFolder) {
  ASSERT_TRUE(BackUp("backup", BackupFiles::kNewest).ok());
  EXPECT_THAT(std::string(BackUp("backup", BackupFiles::kNewest).status().message()),
              HasSubstr("is not empty"));
  EXPECT_THAT(Refusal("backup", "data"), HasSubstr("is in use by"));
  store_.reset();
  EXPECT_THAT(Refusal("backup", "data"), HasSubstr("has jobs already"));
}

}  // namespace
}  // namespace imageddpo
