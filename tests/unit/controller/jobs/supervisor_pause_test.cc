// Pauses, checkpoints on demand and the end of the service: what becomes of the state after each
// epoch, which the leader sends whether a checkpoint is due or not.

#include <optional>

#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr bool kSpareRank = true;

class SupervisorPauseTest : public SupervisorTest {
 protected:
  /// A job of 8 epochs on ranks 1 and 2 that has trained two of them, with a checkpoint after the
  /// first.
  std::string Running() {
    const std::string id = Submit(SpecOf(2, 8)).id();
    Progress(1, id, "sampling");
    Epoch(1, id, 0);
    Checkpoint(1, id, 1);
    Epoch(1, id, 1);
    Checkpoint(1, id, 2, kSpareRank);
    sent_.clear();
    return id;
  }
  void EndAll(const std::string& id, const absl::Status& status) {
    for (const int rank : {1, 2}) Ended(rank, id, status);
  }
  v1::JobState Pause(const std::string& id, bool immediately = false) {
    const absl::StatusOr<v1::Job> job = supervisor_->jobs().Pause(id, immediately);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? job->state() : v1::JOB_STATE_UNSPECIFIED;
  }
  /// @return the LoRA that it continues from; empty: it starts anew.
  std::string Resume(const std::string& id) {
    const absl::StatusOr<v1::Job> job = supervisor_->jobs().Resume(id, std::nullopt);
    EXPECT_TRUE(job.ok()) << job.status();
    sent_.clear();
    supervisor_->Tick();
    EXPECT_FALSE(StartedRanks(id).empty());
    for (const auto& [rank, message] : sent_) {
      if (message.start_job().job_id() == id) return message.start_job().resume_from().lora();
    }
    return "";
  }
};

TEST_F(SupervisorPauseTest, AJobRunsToTheEndOfItsEpochAndContinuesFromThere) {
  const std::string id = Running();
  EXPECT_EQ(Pause(id), v1::PAUSING);
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000001"));
  Epoch(1, id, 2);
  Checkpoint(1, id, 3, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 2));
  Epoch(1, id, 3);  // On its way when the ranks were told: it will run again.
  EXPECT_EQ(Pause(id), v1::PAUSING);
  EndAll(id, absl::CancelledError("asked to stop"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Stored(id).progress().epoch(), 3);
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"),
            "{\"epoch\": 0}\n{\"epoch\": 1}\n{\"epoch\": 2}\n");
  sent_.clear();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), IsEmpty());
  EXPECT_EQ(Resume(id), "LoRA 3");
  EXPECT_EQ(Stored(id).resume_count(), 1);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 3);
}

TEST_F(SupervisorPauseTest, WithoutWaitingItKeepsWhatIsFinished) {
  const std::string id = Running();
  EXPECT_EQ(Pause(id), v1::PAUSING);
  EXPECT_EQ(Pause(id, true), v1::PAUSING);  // After all.
  EXPECT_EQ(Pause(id, true), v1::PAUSING);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 2));  // Told once.
  EndAll(id, absl::CancelledError("asked to stop"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Resume(id), "LoRA 2");
}

TEST_F(SupervisorPauseTest, TheEndOfTheLastEpochIsTheEndOfTheJob) {
  const std::string id = Running();
  Pause(id);
  Checkpoint(1, id, 8);
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
  EndAll(id, absl::OkStatus());
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
}

TEST_F(SupervisorPauseTest, AJobThatEndsBeforeItIsToldToStopIsPausedAllTheSame) {
  const std::string id = Running();
  Pause(id);
  Checkpoint(1, id, 3, kSpareRank);
  Checkpoint(1, id, 8);
  EndAll(id, absl::OkStatus());
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Resume(id), "LoRA 3");
}

TEST_F(SupervisorPauseTest, ARankThatDiesMeanwhileCostsItsEpochAlone) {
  const std::string id = Running();
  Pause(id);
  supervisor_->OnFailure(2, "process died");
  EXPECT_EQ(Stored(id).state(), v1::PAUSING);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
  Ended(1, id, absl::AbortedError("the gang was aborted"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  ASSERT_EQ(Stored(id).warnings_size(), 1);
  EXPECT_THAT(Stored(id).warnings(0), HasSubstr("process died; the job is paused"));
  EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 0);
  EXPECT_EQ(Resume(id), "LoRA 2");
}

TEST_F(SupervisorPauseTest, AnErrorOfTheJobMeanwhileFailsIt) {
  const std::string id = Running();
  Pause(id);
  Ended(1, id, absl::InvalidArgumentError("an image is missing"));
  Ended(2, id, absl::AbortedError("peer left"));
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_EQ(Resume(id), "LoRA 2");
  EXPECT_FALSE(Stored(id).has_end_time());
}

TEST_F(SupervisorPauseTest, CancelledMeanwhileItIsCancelled) {
  const std::string id = Running();
  Pause(id);
  EXPECT_EQ(supervisor_->jobs().Cancel(id)->state(), v1::CANCELLING);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 2));
  EndAll(id, absl::CancelledError("asked to stop"));
  EXPECT_EQ(Stored(id).state(), v1::CANCELLED);
  EXPECT_EQ(Resume(id), "LoRA 2");
}

TEST_F(SupervisorPauseTest, APausedJobIsCancelledAtOnce) {
  const std::string id = Running();
  Pause(id, true);
  EndAll(id, absl::CancelledError("asked to stop"));
  EXPECT_EQ(supervisor_->jobs().Cancel(id)->state(), v1::CANCELLED);
}

TEST_F(SupervisorPauseTest, WithoutAnEpochUnderWayNothingIsWaitedFor) {
  const std::string starting = Submit(SpecOf(2)).id();
  EXPECT_EQ(Pause(starting), v1::PAUSING);
  EXPECT_THAT(StoppedRanks(starting), ElementsAre(1, 2));
  EndAll(starting, absl::CancelledError("asked to stop"));
  EXPECT_EQ(Stored(starting).state(), v1::PAUSED);

  const std::string recovering = Submit(SpecOf(2)).id();
  supervisor_->OnFailure(2, "process died");
  EXPECT_EQ(Pause(recovering), v1::PAUSING);
  Ended(1, recovering, absl::AbortedError("the gang was aborted"));
  EXPECT_EQ(Stored(recovering).state(), v1::PAUSED);
  EXPECT_EQ(Resume(recovering), "");  // It has no checkpoint.
  EXPECT_EQ(Stored(recovering).state(), v1::STARTING);

  for (const int rank : {1, 3}) Ended(rank, recovering, absl::UnavailableError("x"));
  EXPECT_EQ(Stored(recovering).state(), v1::RECOVERING);
  EXPECT_EQ(Pause(recovering), v1::PAUSED);
  sent_.clear();
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(recovering), IsEmpty());
}

TEST_F(SupervisorPauseTest, AJobWhoseRanksStillStopCannotBeResumedYet) {
  const std::string id = Submit(SpecOf(2)).id();
  for (int death = 0; death < 3; ++death) {
    EndAll(id, absl::UnavailableError("x"));
    supervisor_->Tick();
  }
  supervisor_->OnFailure(2, "process died");  // FAILED, while rank 1 still works.
  const absl::Status refused = supervisor_->jobs().Resume(id, std::nullopt).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("try again in a few seconds"));
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  Ended(1, id, absl::AbortedError("x"));
  EXPECT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
}

TEST_F(SupervisorPauseTest, ACheckpointIsWrittenOnceWhereOneIsAskedFor) {
  const std::string id = Running();
  ASSERT_TRUE(supervisor_->jobs().Checkpoint(id).ok());
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000001"));
  Checkpoint(1, id, 3, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  Checkpoint(1, id, 4, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
}

TEST_F(SupervisorPauseTest, ACheckpointIsWrittenWhenTheLastOneIsOld) {
  v1::JobSpec spec = SpecOf(1, 8);
  spec.mutable_checkpoint()->set_every_minutes(10);
  const std::string id = Submit(spec).id();
  Checkpoint(1, id, 1);
  clock_.Advance(599);
  Checkpoint(1, id, 2, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000001"));
  clock_.Advance(1);
  Checkpoint(1, id, 3, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  clock_.Advance(300);
  Checkpoint(1, id, 4, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
}

TEST_F(SupervisorPauseTest, ALostRankCostsTheEpochUnderWayAlone) {
  const std::string id = Running();
  supervisor_->OnFailure(2, "process died");
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000002"));
  Ended(1, id, absl::AbortedError("the gang was aborted"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

TEST_F(SupervisorPauseTest, AStopWritesWhatIsFinishedAndWaitsForTheEpochUnderWay) {
  drain_seconds_ = 30;
  Restart();
  const std::string id = Running();
  const std::string starting = Submit(SpecOf(1)).id();  // Has no epoch under way.
  EXPECT_FALSE(supervisor_->MayStop());
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000002"));
  EXPECT_TRUE(
      absl::IsUnavailable(supervisor_->jobs().Submit({Judged(SpecOf(1)), "", "h"}).status()));
  clock_.Advance(10);
  supervisor_->Tick();
  EXPECT_FALSE(supervisor_->MayStop());
  Checkpoint(1, id, 3, kSpareRank);
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000003"));
  EXPECT_TRUE(supervisor_->MayStop());
  Checkpoint(1, id, 4, kSpareRank);  // A short epoch, before the end.
  supervisor_->Drain("the service was stopped");
  Restart();
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 4);
  EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 0);
  EXPECT_EQ(Stored(starting).state(), v1::STARTING);
}

TEST_F(SupervisorPauseTest, AStopWaitsNoLongerThanItMay) {
  drain_seconds_ = 30;
  Restart();
  const std::string id = Running();
  EXPECT_FALSE(supervisor_->MayStop());
  clock_.Advance(29);
  EXPECT_FALSE(supervisor_->MayStop());
  clock_.Advance(1);
  EXPECT_TRUE(supervisor_->MayStop());
  supervisor_->Drain("the service was stopped");
  Restart();
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

TEST_F(SupervisorPauseTest, AStopDoesNotWaitForAJobThatWaitsItself) {
  drain_seconds_ = 30;
  Restart();
  const std::string id = Running();
  v1::WorkerMessage message;
  message.mutable_waiting()->set_job_id(id);
  message.mutable_waiting()->set_what("reward service 'taste'");
  supervisor_->OnMessage(2, message);
  EXPECT_TRUE(supervisor_->MayStop());
}

TEST_F(SupervisorPauseTest, AStopFinishesAPause) {
  drain_seconds_ = 30;
  Restart();
  const std::string id = Running();
  Pause(id);
  EXPECT_FALSE(supervisor_->MayStop());
  Checkpoint(1, id, 3, kSpareRank);
  EXPECT_TRUE(supervisor_->MayStop());
  supervisor_->Drain("the service was stopped");
  Restart();
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Resume(id), "LoRA 3");
}

}  // namespace
}  // namespace imageddpo
