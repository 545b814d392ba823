// Full disks: a job has a warning or fails with a clear reason, and the service continues.

#include <algorithm>
#include <cerrno>

#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A disk that is full for files whose path contains a text, as long as it is told so.
class FullDisk final : public FileSystem {
 public:
  std::string full_for;  ///< Empty: for none.

  absl::StatusOr<std::string> Read(const std::string& path) override { return real_.Read(path); }
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (Full(path)) return NoSpace(path);
    return real_.Create(path);
  }
  absl::Status Append(const std::string& path, std::string_view bytes) override {
    return Full(path) ? NoSpace(path) : real_.Append(path, bytes);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return real_.Rename(from, to);
  }
  absl::Status SyncDirectory(const std::string& path) override { return real_.SyncDirectory(path); }
  absl::Status Remove(const std::string& path) override { return real_.Remove(path); }
  absl::Status RemoveAll(const std::string& path) override { return real_.RemoveAll(path); }
  absl::Status MakeDirectory(const std::string& path) override {
    return Full(path) ? NoSpace(path) : real_.MakeDirectory(path);
  }
  absl::StatusOr<bool> Exists(const std::string& path) override { return real_.Exists(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return real_.List(path);
  }

 private:
  bool Full(const std::string& path) const {
    return !full_for.empty() && path.find(full_for) != std::string::npos;
  }
  static absl::Status NoSpace(const std::string& path) {
    return absl::ErrnoToStatus(ENOSPC, "cannot write '" + path + "'");
  }
  PosixFileSystem real_;
};

class SupervisorFaultTest : public SupervisorTest {
 protected:
  SupervisorFaultTest() { Restart(&disk_full_); }
  FullDisk disk_full_;
};

TEST_F(SupervisorFaultTest, ACheckpointThatCannotBeWrittenIsAWarning) {
  const std::string id = Submit(SpecOf(1)).id();
  Checkpoint(1, id, 1);
  disk_full_.full_for = "checkpoints";
  Checkpoint(1, id, 2);
  ASSERT_EQ(Stored(id).warnings_size(), 1);
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("the checkpoint of epoch 2 could not be written"));
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("No space left"));
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000001"));
  disk_full_.full_for.clear();
  Checkpoint(1, id, 3);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
}

TEST_F(SupervisorFaultTest, ALostResultFailsTheJob) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.full_for = "checkpoints";
  Checkpoint(1, id, 4);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("its result is not on disk"));
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("No space left"));
}

TEST_F(SupervisorFaultTest, RowsAndPicturesThatCannotBeWrittenAreWarnings) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.full_for = "metrics.jsonl";
  Epoch(1, id, 0);
  Epoch(1, id, 1);
  ASSERT_EQ(Stored(id).warnings_size(), 1);  // The same text comes once.
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("metrics.jsonl"));
  disk_full_.full_for.clear();
  Epoch(1, id, 2);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"),
            "{\"epoch\": 0}\n{\"epoch\": 1}\n{\"epoch\": 2}\n");
}

TEST_F(SupervisorFaultTest, AJobThatCannotBeginFailsAndFreesItsRanks) {
  disk_full_.full_for = "job-000001";
  const std::string id = Submit(SpecOf(3)).id();
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("No space left"));
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
  EXPECT_EQ(Stored(Submit(SpecOf(3)).id()).state(), v1::STARTING);
}

TEST_F(SupervisorFaultTest, AFullDiskDoesNotStopAResume) {
  const std::string id = Submit(SpecOf(1)).id();
  Epoch(1, id, 0);
  Checkpoint(1, id, 1);
  disk_full_.full_for = id;
  Ended(1, id, absl::UnavailableError("x"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 1);
}

TEST_F(SupervisorFaultTest, AFullStoreRefusesJobsAndKeepsWhatHappensUntilItCanBeStored) {
  const std::string id = Submit(SpecOf(1)).id();
  ASSERT_TRUE(store_->LimitSize(1).ok());
  // SQLite still fills the pages that it has; then it is full.
  int64_t epoch = 0;
  while (table_->Flush().ok() && epoch < 2000) Epoch(1, id, epoch++);
  ASSERT_FALSE(table_->Flush().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(
      supervisor_->jobs().Submit({Judged(SpecOf(1)), "", std::string(5000, 'h')}).status()));
  Epoch(1, id, epoch++);
  Ended(1, id);
  supervisor_->Tick();
  EXPECT_NE(Stored(id).state(), v1::SUCCEEDED);

  ASSERT_TRUE(store_->LimitSize(0).ok());
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
  const std::vector<v1::JobEvent> events = Events(id);
  for (size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].number(), static_cast<int64_t>(i) + 1);
  EXPECT_EQ(std::count_if(events.begin(), events.end(),
                          [](const auto& event) { return event.has_epoch(); }),
            epoch);
}

}  // namespace
}  // namespace imageddpo
