#include "trainer/controller/jobs/supervisor.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(SupervisorTest, AGangIsStartedFollowedAndReleased) {
  const std::string id = Submit(SpecOf(2)).id();
  EXPECT_THAT(StartedRanks(id), ElementsAre(1, 2));
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).topology(), "colocated 2");
  Progress(1, id, "loading");
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  Progress(1, id, "sampling");
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  Checkpoint(1, id, 4);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);  // Rank 2 still works.
  EXPECT_EQ(supervisor_->scheduler().num_free(), 1);
  Ended(2, id);
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
}

TEST_F(SupervisorTest, Fp16NeedsGpus) {
  v1::JobSpec spec = SpecOf(1);
  spec.mutable_model()->set_precision("fp16");
  const auto refused = supervisor_->jobs().Submit({Judged(spec), "", "hash"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("use `bf16`"));
  for (const int rank : {1, 2, 3}) {
    v1::WorkerMessage message;
    message.mutable_hello()->set_hostname("host");
    message.mutable_hello()->set_cores(8);
    message.mutable_hello()->set_device(absl::StrCat("cuda:", rank - 1));
    supervisor_->OnMessage(rank, message);
  }
  EXPECT_TRUE(supervisor_->jobs().Submit({Judged(spec), "", "hash"}).ok());
}

TEST_F(SupervisorTest, StrangersAreNotHeard) {
  const std::string id = Submit(SpecOf(1)).id();
  ASSERT_THAT(StartedRanks(id), ElementsAre(1));
  Epoch(2, id, 0);
  Ended(2, id, absl::InternalError("not mine"));
  Ended(1, "job-000099", absl::InternalError("whose?"));
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).progress().epoch(), 0);
}

TEST_F(SupervisorTest, TheLateWordOfAnEarlierGangIsNotHeard) {
  const std::string id = Submit(SpecOf(1)).id();
  const std::string first_tag = tags_[id];
  Ended(1, id, absl::UnavailableError("x"));
  supervisor_->Tick();
  const std::string second_tag = std::exchange(tags_[id], first_tag);
  EXPECT_NE(first_tag, second_tag);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  tags_[id] = second_tag;
  Checkpoint(1, id, 4);
  Ended(1, id);
  EXPECT_EQ(Stored(id).state(), v1::SUCCEEDED);
}

TEST_F(SupervisorTest, OneRanksErrorStopsTheOthersAndIsTheReason) {
  const std::string id = Submit(SpecOf(3)).id();
  Ended(2, id, absl::InvalidArgumentError("unet/: key missing"));
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 3));
  Ended(1, id, absl::AbortedError("peer left"));
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 3));  // Asked once.
  Ended(3, id, absl::CancelledError("stopped"));
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_EQ(Stored(id).state_reason(), "unet/: key missing");
  EXPECT_TRUE(Stored(id).has_end_time());
}

TEST_F(SupervisorTest, ADeathBringsTheJobBackOnOtherRanksWhereThePoolAllows) {
  const std::string id = Submit(SpecOf(2)).id();
  Checkpoint(1, id, 1);
  Epoch(1, id, 1);
  supervisor_->OnFailure(2, "process died");
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_EQ(Stored(id).state_reason(), "rank 2 (pid 1002 on host): process died");
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);  // Rank 1 still works for the old gang.
  sent_.clear();
  Ended(1, id, absl::AbortedError("the gang was aborted"));
  supervisor_->Tick();
  EXPECT_THAT(StartedRanks(id), ElementsAre(1, 3));
  EXPECT_EQ(TakeSent(3)[0].start_job().resume_from().lora(), "LoRA 1");
  EXPECT_EQ(Stored(id).resume_count(), 1);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 1);
  EXPECT_EQ(Stored(id).progress().epoch(), 1);
  EXPECT_EQ(supervisor_->restart_reason(), "");
}

TEST_F(SupervisorTest, OtherJobsDoNotNotice) {
  const std::string hit = Submit(SpecOf(1)).id();
  const std::string other = Submit(SpecOf(1)).id();
  Progress(2, other, "sampling");
  supervisor_->OnFailure(1, "process died");
  clock_.Advance(10000);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "");
  EXPECT_EQ(Stored(other).state(), v1::RUNNING);
  EXPECT_THAT(StoppedRanks(other), IsEmpty());
  EXPECT_EQ(Stored(hit).state(), v1::STARTING);  // On rank 3, again.
  EXPECT_THAT(Stored(hit).resume_count(), 1);
}

TEST_F(SupervisorTest, TooFewWorkersAskForARestart) {
  const std::string id = Submit(SpecOf(1)).id();
  Progress(1, id, "sampling");
  for (const int rank : {1, 2, 3}) supervisor_->OnFailure(rank, "process died");
  EXPECT_THAT(supervisor_->restart_reason(), HasSubstr("0 workers are left"));
  EXPECT_TRUE(
      absl::IsUnavailable(supervisor_->jobs().Submit({Judged(SpecOf(1)), "", "h"}).status()));
  supervisor_->Drain("the service restarts");
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  Restart();
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
}

TEST_F(SupervisorTest, APoisonJobFailsInPlace) {
  const std::string id = Submit(SpecOf(1)).id();
  for (int death = 0; death < 4; ++death) {
    supervisor_->Tick();
    Progress(1, id, "sampling");
    Ended(1, id, absl::UnavailableError("the reward service is gone"));
  }
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("the reward service is gone"));
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("3 times"));
  EXPECT_EQ(Stored(id).resume_count(), 3);
}

TEST_F(SupervisorTest, OnlyNewEpochsForgiveDeaths) {
  const std::string id = Submit(SpecOf(1, 50)).id();
  Epoch(1, id, 0);
  Epoch(1, id, 1);
  for (int death = 0; death < 4; ++death) {
    Ended(1, id, absl::UnavailableError("x"));
    supervisor_->Tick();
    Epoch(1, id, 0);  // There is no checkpoint: the same epochs again, and never a third one.
    Epoch(1, id, 1);
  }
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
}

TEST_F(SupervisorTest, RepeatedEpochsLeaveNothingTwice) {
  const std::string id = Submit(SpecOf(1, 50)).id();
  for (const int64_t epoch : {0, 1, 2}) Epoch(1, id, epoch);
  Checkpoint(1, id, 1);
  Ended(1, id, absl::UnavailableError("x"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).progress().epoch(), 1);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"), "{\"epoch\": 0}\n");
  Checkpoint(1, id, 1);
  for (const int64_t epoch : {1, 2, 3}) Epoch(1, id, epoch);
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/metrics.jsonl"),
            "{\"epoch\": 0}\n{\"epoch\": 1}\n{\"epoch\": 2}\n{\"epoch\": 3}\n");
  std::vector<int64_t> epochs;
  int checkpoints = 0;
  for (const v1::JobEvent& event : Events(id)) {
    if (event.has_epoch()) epochs.push_back(event.epoch().epoch());
    checkpoints += event.has_checkpoint();
  }
  EXPECT_THAT(epochs, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(checkpoints, 1);
}

TEST_F(SupervisorTest, ARankThatDoesNotStopIsLost) {
  const std::string id = Submit(SpecOf(1)).id();
  const std::string other = Submit(SpecOf(1)).id();
  ASSERT_TRUE(supervisor_->jobs().Cancel(id).ok());
  EXPECT_EQ(Stored(id).state(), v1::CANCELLING);
  clock_.Advance(59);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::CANCELLING);
  clock_.Advance(2);
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::CANCELLED);
  EXPECT_TRUE(supervisor_->scheduler().workers().at(1).dead);
  EXPECT_EQ(supervisor_->restart_reason(), "");  // The other job goes on.
  EXPECT_EQ(Stored(other).state(), v1::STARTING);
}

TEST_F(SupervisorTest, CancelledWhileItRecovers) {
  const std::string id = Submit(SpecOf(2)).id();
  supervisor_->OnFailure(2, "process died");
  ASSERT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_EQ(supervisor_->jobs().Cancel(id)->state(), v1::CANCELLING);  // Rank 1 still works.
  Ended(1, id, absl::AbortedError("x"));
  EXPECT_EQ(Stored(id).state(), v1::CANCELLED);
  supervisor_->Tick();
  EXPECT_THAT(States(id),
              ElementsAre(v1::QUEUED, v1::STARTING, v1::RECOVERING, v1::CANCELLING, v1::CANCELLED));
}

TEST_F(SupervisorTest, NothingFollowsTheEndOfAJob) {
  const std::string id = Submit(SpecOf(2)).id();
  for (int death = 0; death < 3; ++death) {
    Ended(1, id, absl::UnavailableError("x"));
    Ended(2, id, absl::UnavailableError("x"));
    supervisor_->Tick();
  }
  supervisor_->OnFailure(2, "process died");  // The fourth: FAILED, while rank 1 still works.
  ASSERT_EQ(Stored(id).state(), v1::FAILED);
  const size_t events = Events(id).size();
  Epoch(1, id, 0);
  Checkpoint(1, id, 1);
  supervisor_->Tick();
  Ended(1, id);
  supervisor_->Tick();
  EXPECT_THAT(Events(id), SizeIs(events));
  EXPECT_EQ(supervisor_->scheduler().num_free(), 2);
}

TEST_F(SupervisorTest, CrashesAreCountedDrainsAreNot) {
  const std::string id = Submit(SpecOf(1)).id();
  for (int stop = 0; stop < 6; ++stop) {
    supervisor_->Drain("stopped by hand");
    Restart();
    supervisor_->Tick();
    EXPECT_EQ(Stored(id).state(), v1::STARTING);
  }
  for (int crash = 0; crash < 3; ++crash) {
    Restart();
    supervisor_->Tick();
    EXPECT_EQ(Stored(id).state(), v1::STARTING);
  }
  Restart();
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("the service died while the job ran"));
  EXPECT_EQ(Stored(id).resume_count(), 9);
}

TEST_F(SupervisorTest, ThreadsAreChosenAtSubmitAndKept) {
  EXPECT_EQ(Submit(SpecOf(2)).spec().device().num_threads(), 4);
  v1::JobSpec spec = SpecOf(2);
  spec.mutable_device()->set_num_threads(3);
  EXPECT_EQ(Submit(spec).spec().device().num_threads(), 3);
}

TEST_F(SupervisorTest, TimeLeftFollowsTheNewestEpochs) {
  const std::string id = Submit(SpecOf(1, 10)).id();
  Progress(1, id, "sampling");
  EXPECT_EQ(hub_->Progress(id)->seconds_left(), -1);
  Epoch(1, id, 0);  // Says that it took 2 s.
  EXPECT_EQ(hub_->Progress(id)->seconds_left(), 18);
  clock_.Advance(4);  // With an evaluation on the way.
  Epoch(1, id, 1);
  EXPECT_EQ(hub_->Progress(id)->seconds_left(), 8 * 3);
  EXPECT_EQ(hub_->Progress(id)->newest_epoch().epoch_seconds(), 2);
}

TEST_F(SupervisorTest, AMessageThatCannotBeReadCostsItsJobAlone) {
  const std::string id = Submit(SpecOf(2)).id();
  const std::string other = Submit(SpecOf(1)).id();
  Progress(1, id, "sampling");
  Progress(3, other, "sampling");
  v1::WorkerMessage message;
  message.mutable_unreadable()->set_size_bytes(7);
  message.mutable_unreadable()->set_first_bytes("\xe9");
  supervisor_->OnMessage(2, message);
  supervisor_->OnMessage(2, message);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1, 2));
  Ended(1, id, absl::CancelledError("asked to stop"));
  Ended(2, id, absl::CancelledError("asked to stop"));
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_EQ(Stored(id).state_reason(), "rank 2: sent a message of 7 bytes that cannot be read");
  EXPECT_EQ(supervisor_->scheduler().num_free(), 2);
  EXPECT_EQ(Stored(other).state(), v1::RUNNING);
}

TEST_F(SupervisorTest, AJobSaysHowManyOfItsImagesItUses) {
  const std::string id = Submit(SpecOf(1)).id();
  v1::WorkerMessage message;
  message.mutable_data()->set_job_id(id);
  message.mutable_data()->set_num_images(1980);
  message.mutable_data()->set_num_listed(2000);
  supervisor_->OnMessage(1, message);
  EXPECT_EQ(Stored(id).progress().data_images(), 1980);
  EXPECT_EQ(Stored(id).progress().data_images_listed(), 2000);
}

TEST_F(SupervisorTest, WarningsComeOnce) {
  const std::string id = Submit(SpecOf(1)).id();
  v1::WorkerMessage message;
  message.mutable_warning()->set_job_id(id);
  message.mutable_warning()->set_message("slow");
  for (int i = 0; i < 3; ++i) supervisor_->OnMessage(1, message);
  EXPECT_THAT(Stored(id).warnings(), ElementsAre("slow"));
  for (int i = 0; i < 300; ++i) {
    message.mutable_warning()->set_message("warning " + std::to_string(i));
    supervisor_->OnMessage(1, message);
  }
  EXPECT_EQ(Stored(id).warnings_size(), 100);
}

}  // namespace
}  // namespace imageddpo
