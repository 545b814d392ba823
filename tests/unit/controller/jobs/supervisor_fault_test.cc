// Disks that are full or cannot be read: jobs wait with a clear reason and go on, and none fails.

#include <algorithm>
#include <functional>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "tests/testing/full_disk.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SupervisorFaultTest : public SupervisorTest {
 protected:
  SupervisorFaultTest() { Restart(&disk_full_); }
  ~SupervisorFaultTest() override { supervisor_.reset(); }  // Its writer uses the disk.

  /// Ticks until the condition holds, at most 10 s: the artifact writer is a thread of its own.
  bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) {
      absl::SleepFor(absl::Milliseconds(5));
      supervisor_->Tick();
    }
    return condition();
  }
  FullDisk disk_full_;
};

TEST_F(SupervisorFaultTest, ACheckpointThatCannotBeWrittenIsAWarning) {
  const std::string id = Submit(SpecOf(1)).id();
  Checkpoint(1, id, 1);
  disk_full_.FullFor("checkpoints");
  Checkpoint(1, id, 2);
  ASSERT_EQ(Stored(id).warnings_size(), 1);
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("the checkpoint of epoch 2 could not be written"));
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("No space left"));
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000001"));
  disk_full_.FullFor("");
  Checkpoint(1, id, 4);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
}

TEST_F(SupervisorFaultTest, AJobWaitsUntilItsLastCheckpointIsOnDisk) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.FullFor("checkpoints");
  Checkpoint(1, id, 4);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("waits for the service's disk"));
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("No space left"));
  EXPECT_EQ(hub_->Reason(id), Stored(id).state_reason());
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);  // The ranks wait for nothing.
  clock_.Advance(1.1);
  supervisor_->Tick();  // Still full: the next try is two seconds later.
  disk_full_.FullFor("");
  clock_.Advance(1.5);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  clock_.Advance(1);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
  EXPECT_EQ(Stored(id).state_reason(), "");
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000004"));
  EXPECT_EQ(Stored(id).warnings_size(), 1);
}

TEST_F(SupervisorFaultTest, AJobThatWaitsForTheDiskCanBeCancelled) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.FullFor("checkpoints");
  Checkpoint(1, id, 4);
  Ended(1, id);
  ASSERT_EQ(Stored(id).state(), v1::RUNNING);
  EXPECT_TRUE(supervisor_->jobs().Cancel(id).ok());
  EXPECT_EQ(Stored(id).state(), v1::CANCELLED);
  EXPECT_TRUE(supervisor_->jobs().Submit({Judged(SpecOf(3)), "", "hash"}).ok());
}

TEST_F(SupervisorFaultTest, ALostRanksStateIsNotGivenUpForAFullDisk) {
  const std::string id = Submit(SpecOf(1)).id();
  Checkpoint(1, id, 1);
  Checkpoint(1, id, 2, /*spare=*/true);
  disk_full_.FullFor("checkpoints");
  supervisor_->OnFailure(1, "process died");
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  disk_full_.FullFor("");
  clock_.Advance(1.1);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

TEST_F(SupervisorFaultTest, AJobWhoseLastStateHasNotComeRunsAgain) {
  const std::string id = Submit(SpecOf(1)).id();
  Checkpoint(1, id, 2);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("the state after epoch 4 has not arrived"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

TEST_F(SupervisorFaultTest, AJobWaitsForItsLastEvaluationToo) {
  const std::string id = Submit(SpecOf(1)).id();
  Checkpoint(1, id, 4);
  disk_full_.FullFor("eval");
  v1::WorkerMessage message;
  message.mutable_eval()->set_job_id(id);
  message.mutable_eval()->set_epoch(4);
  message.mutable_eval()->set_rows("{}\n");
  supervisor_->OnMessage(1, message);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("No space left"));
  disk_full_.FullFor("");
  clock_.Advance(1.1);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/eval/epoch-000004.jsonl"), "{}\n");
}

TEST_F(SupervisorFaultTest, PicturesHoldUpNothingButTheEnd) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.FullFor("samples");
  v1::WorkerMessage message;
  message.mutable_epoch()->set_job_id(id);
  message.mutable_epoch()->mutable_metrics()->set_epoch(3);
  v1::NamedBytes& picture = *message.mutable_epoch()->add_pictures();
  picture.set_name("0.png");
  picture.set_data("bytes");
  supervisor_->OnMessage(1, message);
  Checkpoint(1, id, 4);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000004"));
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
  ASSERT_TRUE(Eventually([&] { return Stored(id).warnings_size() == 1; }));
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("pictures wait for the disk"));
  disk_full_.FullFor("");
  clock_.Advance(2);
  ASSERT_TRUE(Eventually([&] { return Stored(id).state() == v1::SUCCEEDED; }));
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/samples/epoch-000003/0.png"), "bytes");
}

TEST_F(SupervisorFaultTest, RowsAndPicturesThatCannotBeWrittenAreWarnings) {
  const std::string id = Submit(SpecOf(1)).id();
  disk_full_.FullFor("metrics.jsonl");
  Epoch(1, id, 0);
  Epoch(1, id, 1);
  ASSERT_EQ(Stored(id).warnings_size(), 1);  // The same text comes once.
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("metrics.jsonl"));
  disk_full_.FullFor("");
  Epoch(1, id, 2);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"),
            "{\"epoch\": 0}\n{\"epoch\": 1}\n{\"epoch\": 2}\n");
}

TEST_F(SupervisorFaultTest, JobsThatCannotBeginWaitInTheirOrderAndNoneFails) {
  disk_full_.FullFor("data/jobs");
  const std::string first = Submit(SpecOf(3)).id();
  const std::string second = Submit(SpecOf(3)).id();
  for (const std::string& id : {first, second}) {
    EXPECT_EQ(Stored(id).state(), v1::QUEUED);
    EXPECT_THAT(hub_->Reason(id), HasSubstr("waits for the service's disk"));
    EXPECT_THAT(hub_->Reason(id), HasSubstr("No space left"));
  }
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
  clock_.Advance(1);
  supervisor_->Tick();  // Tried again, in vain; next in two seconds.
  EXPECT_EQ(Stored(first).state(), v1::QUEUED);
  disk_full_.FullFor("");
  clock_.Advance(2);
  supervisor_->Tick();
  EXPECT_EQ(Stored(first).state(), v1::STARTING);
  EXPECT_EQ(Stored(second).state(), v1::QUEUED);
  EXPECT_THAT(Stored(first).warnings(), IsEmpty());
}

TEST_F(SupervisorFaultTest, AJobWhoseFolderAloneIsBadHoldsUpNoOther) {
  disk_full_.FullFor("job-000001");
  const std::string bad = Submit(SpecOf(3)).id();
  const std::string good = Submit(SpecOf(3)).id();
  EXPECT_EQ(Stored(bad).state(), v1::QUEUED);
  EXPECT_EQ(Stored(good).state(), v1::STARTING);
}

TEST_F(SupervisorFaultTest, ACheckpointThatCannotBeReadNowIsNotDamaged) {
  const std::string id = Submit(SpecOf(1)).id();
  for (const int64_t epoch : {0, 1}) {
    Epoch(1, id, epoch);
    Checkpoint(1, id, epoch + 1);
  }
  disk_full_.UnreadableFor("epoch-000002");
  Ended(1, id, absl::UnavailableError("x"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(hub_->Reason(id), HasSubstr("Input/output error"));
  EXPECT_THAT(Stored(id).warnings(), IsEmpty());
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"), "{\"epoch\": 0}\n{\"epoch\": 1}\n");
  disk_full_.UnreadableFor("");
  clock_.Advance(1);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

TEST_F(SupervisorFaultTest, ADiskThatFailsARankIsNotTheJobsFault) {
  const std::string id = Submit(SpecOf(1)).id();
  v1::WorkerMessage message;
  v1::JobEnded& ended = *message.mutable_ended();
  ended.set_job_id(id);
  ended.set_gang_tag(tags_[id]);
  ended.set_code(static_cast<int>(absl::StatusCode::kUnknown));
  ended.set_message("cannot read '0001.png': Input/output error");
  ended.mutable_fault()->set_whose(static_cast<int>(Whose::kHost));
  ended.mutable_fault()->set_passes(true);
  supervisor_->OnMessage(1, message);
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
}

TEST_F(SupervisorFaultTest, AFullDiskDoesNotStopAResume) {
  const std::string id = Submit(SpecOf(1)).id();
  Epoch(1, id, 0);
  Checkpoint(1, id, 1);
  disk_full_.FullFor(id);
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
  Checkpoint(1, id, 4);
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

TEST_F(SupervisorFaultTest, ACancelIsConfirmedOnlyWhenItIsStored) {
  const std::string id = Submit(SpecOf(1)).id();
  ASSERT_TRUE(store_->LimitSize(1).ok());
  int64_t epoch = 0;
  while (table_->Flush().ok() && epoch < 2000) Epoch(1, id, epoch++);
  ASSERT_TRUE(supervisor_->jobs().Cancel(id).ok());
  const absl::Status status = table_->CheckStored(id);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not stored yet"));
  ASSERT_TRUE(store_->LimitSize(0).ok());
  EXPECT_TRUE(table_->CheckStored(id).ok());
  EXPECT_EQ(Stored(id).state(), v1::CANCELLING);
}

TEST_F(SupervisorFaultTest, ARankWhoseJobHangsIsLostAndTheJobGoesOnOnOthers) {
  const std::string id = Submit(SpecOf(2)).id();
  Checkpoint(1, id, 1);
  sent_.clear();
  v1::WorkerMessage message;
  message.mutable_hung()->set_job_id(id);
  message.mutable_hung()->set_stage("scoring");
  message.mutable_hung()->set_seconds(75);
  message.mutable_hung()->set_limit(60);
  supervisor_->OnMessage(2, message);
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(Stored(id).state_reason(),
              HasSubstr("rank 2 (pid 1002 on host): stage 'scoring' of job-000001 made no progress "
                        "for 75 s, and its limit is 60 s"));
  EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 1) << "hangs are charged, as deaths are";
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
  Ended(1, id, absl::AbortedError("the gang was aborted"));
  sent_.clear();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), ElementsAre(1, 3));
}

}  // namespace
}  // namespace imageddpo
