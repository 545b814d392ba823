// The verbs alone, and how a new one is added: CONTRIBUTING.md, "A new job verb".

#include "trainer/controller/jobs/job_service.h"

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "common/base/status.h"
#include "common/config/job_states.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JobServiceTest : public StoredJobsTest {
 protected:
  JobServiceTest() {
    for (const int rank : {1, 2}) {
      v1::Hello hello;
      hello.set_hostname("host");
      hello.set_cores(8);
      pool_.WorkerReported(rank, hello);
    }
  }

  std::string Submitted(int colocated = 1) {
    const auto job = verbs_.Submit({Judged(SpecOf(colocated)), "", "hash"});
    EXPECT_TRUE(job.ok()) << job.status();
    return job->id();
  }
  void StartAll() {
    for (const Scheduler::Gang& gang : pool_.FormGangs()) running_.Start(gang);
  }

  PosixFileSystem disk_;
  Scheduler pool_{{1, 2}};
  Recovery recovery_{3, *table_, pool_};
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  ArtifactWriter writer_{{}, disk_, clock_};
  RunningJobs running_{{},
                       {disk_, clock_, *table_, *hub_, *metrics_, *job_metrics_, pool_, recovery_,
                        logger_, writer_, [this](int rank, v1::ControllerMessage message) {
                          sent_.emplace_back(rank, std::move(message));
                        }}};
  bool is_ending_ = false;
  JobService verbs_{{*table_, pool_, running_, [this] { return is_ending_; }}};
};

TEST_F(JobServiceTest, ASubmittedJobIsStoredAndQueued) {
  const std::string id = Submitted();
  EXPECT_EQ(Stored(id).state(), v1::QUEUED);
  EXPECT_EQ(Stored(id).spec().device().num_threads(), 8);
  EXPECT_EQ(Stored(id).progress().seconds_left(), -1);
  EXPECT_THAT(pool_.FormGangs(), SizeIs(1));
}

TEST_F(JobServiceTest, ARepeatedRequestReturnsItsJobEvenAtTheEnd) {
  const auto first = verbs_.Submit({Judged(SpecOf(1)), "request", "hash"});
  ASSERT_TRUE(first.ok()) << first.status();
  is_ending_ = true;
  EXPECT_EQ(verbs_.Submit({Judged(SpecOf(1)), "request", "hash"})->id(), first->id());
  EXPECT_TRUE(
      absl::IsAlreadyExists(verbs_.Submit({Judged(SpecOf(1)), "request", "other"}).status()));
  EXPECT_TRUE(absl::IsUnavailable(verbs_.Submit({Judged(SpecOf(1)), "", "hash"}).status()));
  EXPECT_THAT(table_->All(), SizeIs(1));
}

TEST_F(JobServiceTest, WhatThePoolCannotRunIsRefused) {
  EXPECT_THAT(std::string(verbs_.Submit({Judged(SpecOf(3)), "", "hash"}).status().message()),
              HasSubstr("asks for 3 workers"));
  EXPECT_THAT(table_->All(), IsEmpty());
}

TEST_F(JobServiceTest, AWaitingJobIsCancelledAtOnce) {
  const std::string id = Submitted();
  EXPECT_EQ(verbs_.Cancel(id)->state(), v1::CANCELLED);
  EXPECT_THAT(pool_.FormGangs(), IsEmpty());
  EXPECT_THAT(sent_, IsEmpty());
  const absl::Status again = verbs_.Cancel(id).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_EQ(std::string(again.message()),
            id + " has already ended: CANCELLED; possible now: branch, delete, resume, update");
  EXPECT_TRUE(absl::IsNotFound(verbs_.Cancel("job-000099").status()));
}

TEST_F(JobServiceTest, WhatAStateForbidsIsRefusedAndChangesNothing) {
  const std::set<v1::JobState> resumed = {v1::PAUSED, v1::FAILED, v1::CANCELLED};
  const std::set<v1::JobState> trains = {v1::STARTING, v1::RUNNING, v1::PAUSING};
  const std::set<v1::JobState> not_paused = {v1::CANCELLING, v1::SUCCEEDED, v1::FAILED,
                                             v1::CANCELLED};
  const auto expect_refused = [this](const absl::StatusOr<v1::Job>& answer, v1::JobState state,
                                     const std::string& id) {
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition) << StateName(state);
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr(id));
    EXPECT_EQ(Stored(id).state(), state);
    EXPECT_EQ(States(id).size(), Ways().at(state).size() + 1);
  };
  for (const auto& [state, way] : Ways()) {
    JobRecord& record = Add(SpecOf(1));
    const std::string id = record.job.id();
    Move(record, way);
    if (!resumed.contains(state)) expect_refused(verbs_.Resume(id, std::nullopt), state, id);
    if (!resumed.contains(state)) expect_refused(verbs_.Resume(id, 1), state, id);
    if (!trains.contains(state)) expect_refused(verbs_.Checkpoint(id), state, id);
    if (not_paused.contains(state)) expect_refused(verbs_.Pause(id, true), state, id);
  }
  for (const auto& answer : {verbs_.Resume("job-000099", std::nullopt),
                             verbs_.Pause("job-000099", false), verbs_.Checkpoint("job-000099")}) {
    EXPECT_TRUE(absl::IsNotFound(answer.status())) << answer.status();
  }
  EXPECT_THAT(sent_, IsEmpty());
}

TEST_F(JobServiceTest, AWaitingJobIsPausedAtOnceAndWaitsAgainWhenItIsResumed) {
  const std::string id = Submitted();
  EXPECT_EQ(verbs_.Pause(id, false)->state(), v1::PAUSED);
  EXPECT_EQ(verbs_.Pause(id, true)->state(), v1::PAUSED);  // It is already.
  EXPECT_THAT(pool_.FormGangs(), IsEmpty());
  const absl::StatusOr<v1::Job> resumed = verbs_.Resume(id, std::nullopt);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->state(), v1::QUEUED);
  EXPECT_EQ(resumed->state_reason(), "resumed by request");
  StartAll();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resume_count(), 0);  // It had not run before.
}

TEST_F(JobServiceTest, AnEndedJobIsResumedAlsoAfterItWasForgotten) {
  for (const v1::JobState end : {v1::FAILED, v1::CANCELLED}) {
    JobRecord& record = Add(SpecOf(1));
    const std::string id = record.job.id();
    record.restarts_without_epoch = 3;
    Move(record, {end});
    EXPECT_TRUE(Stored(id).has_end_time());
    table_->DropFinished([](const std::string&) { return false; });
    ASSERT_EQ(table_->Find(id), nullptr);
    ASSERT_TRUE(verbs_.Resume(id, std::nullopt).ok());
    EXPECT_EQ(Stored(id).state(), v1::QUEUED);
    EXPECT_FALSE(Stored(id).has_end_time());
    EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 0);
  }
  EXPECT_THAT(pool_.FormGangs(), SizeIs(2));
  is_ending_ = true;
  JobRecord& late = Add(SpecOf(1));
  Move(late, {v1::PAUSED});
  EXPECT_TRUE(absl::IsUnavailable(verbs_.Resume(late.job.id(), std::nullopt).status()));
}

TEST_F(JobServiceTest, ACheckpointThatIsNotThereIsRefusedWithThoseThatAre) {
  JobRecord& record = Add(SpecOf(1));
  const std::string id = record.job.id();
  Move(record, {v1::PAUSED});
  EXPECT_THAT(std::string(verbs_.Resume(id, 7).status().message()),
              HasSubstr("there is no checkpoint of epoch 7; there is none at all"));
  CheckpointStore checkpoints = running_.CheckpointsOf(id);
  for (const int64_t epoch : {2, 4, 5}) {
    v1::Checkpoint checkpoint;
    checkpoint.set_epoch(epoch);
    ASSERT_TRUE(checkpoints.Save(checkpoint).ok());
  }
  const absl::Status refused = verbs_.Resume(id, 3).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr(id + ": there is no checkpoint of epoch 3; choose one of those that there "
                             "are: 2, 4, 5"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(verbs_.Resume(id, 2)->state_reason(),
            "resumed by request from the checkpoint of epoch 2");
  EXPECT_THAT(*checkpoints.Epochs(), ElementsAre(2));
}

TEST_F(JobServiceTest, EachRankTracesTheNextEpochsIntoTheJobsFolder) {
  const std::string id = Submitted(2);
  StartAll();
  Move(*table_->Find(id), {v1::RUNNING});
  sent_.clear();
  ASSERT_TRUE(verbs_.Profile(id, 3).ok());
  ASSERT_THAT(sent_, SizeIs(2));
  for (const auto& [rank, message] : sent_) {
    EXPECT_EQ(message.profile().job_id(), id);
    EXPECT_EQ(message.profile().num_epochs(), 3);
    EXPECT_EQ(message.profile().folder(), "epoch-000000");
  }
  v1::WorkerMessage report;
  report.mutable_trace()->set_job_id(id);
  report.mutable_trace()->set_folder("epoch-000000");
  report.mutable_trace()->set_json("{}");
  running_.OnReport(2, report);
  for (int i = 0; i < 2000 && running_.WritesFiles(id); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(dir_.Read("data/jobs/" + id + "/profile/epoch-000000/rank-2.json"), "{}");
}

TEST_F(JobServiceTest, ARunningJobIsToldToStopOnce) {
  const std::string id = Submitted(2);
  StartAll();
  sent_.clear();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(verbs_.Cancel(id)->state(), v1::CANCELLING);
  ASSERT_THAT(sent_, SizeIs(2));
  for (const auto& [rank, message] : sent_) {
    EXPECT_EQ(message.stop_job().job_id(), id);
    EXPECT_EQ(message.stop_job().reason(), "cancelled by request");
  }
}

}  // namespace
}  // namespace imageddpo
