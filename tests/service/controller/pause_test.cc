// Pauses, resumes, checkpoints on demand and stops of the service, over the real API: a job that
// was interrupted in any of these ways ends with the files of an undisturbed run.

#include <chrono>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 3;
constexpr int64_t kEpochs = 9;

/// Jobs have checkpoints after epochs 1, 2, 4, 6, 8 and 9, and a state after every epoch.
class PauseTest : public ServiceTest {
 protected:
  PauseTest() { script_.sends_every_state = true; }

  /// Starts the service and a job, which trains `epoch` epochs, an even number, and is held there.
  v1::Job RunUntil(int64_t epoch) {
    script_.epochs_allowed = epoch;
    Start();
    v1::JobSpec spec = JobOf(kEpochs);
    spec.set_seed(kSeed);
    return WaitForCheckpoint(MustSubmit(spec).id(), epoch);
  }
  v1::Job WaitForCheckpoint(const std::string& id, int64_t epoch) {
    const std::string name = absl::StrCat("epoch-00000", epoch);
    v1::Job job = Get(id);
    for (int i = 0; i < 4000 && job.lora_path().find(name) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      job = Get(id);
    }
    EXPECT_THAT(job.lora_path(), HasSubstr(name));
    return job;
  }

  grpc::Status Pause(const std::string& id, bool immediately, v1::Job* job) {
    grpc::ClientContext context;
    v1::PauseJobRequest request;
    request.set_id(id);
    request.set_immediately(immediately);
    return stub().PauseJob(&context, request, job);
  }
  grpc::Status Resume(const std::string& id, std::optional<int64_t> epoch, v1::Job* job) {
    grpc::ClientContext context;
    v1::ResumeJobRequest request;
    request.set_id(id);
    if (epoch.has_value()) request.set_epoch(*epoch);
    return stub().ResumeJob(&context, request, job);
  }
  v1::JobState MustPause(const std::string& id, bool immediately = false) {
    v1::Job job;
    const grpc::Status status = Pause(id, immediately, &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.state();
  }
  /// Resumes the job, lets it run to its end and compares.
  void ExpectUndisturbedAfterResume(const std::string& id, int64_t from,
                                    std::optional<int64_t> asked = std::nullopt) {
    script_.epochs_allowed = kAllEpochs;
    v1::Job job;
    const grpc::Status status = Resume(id, asked, &job);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(job.state(), v1::QUEUED);
    ExpectUndisturbed(id, from);
  }
  void ExpectUndisturbed(const std::string& id, int64_t from) {
    const v1::Job done = WaitFor(id, v1::SUCCEEDED);
    EXPECT_EQ(done.resumed_from_epoch(), from);
    EXPECT_EQ(ReadJobFile(id, "metrics.jsonl"), ExpectedMetrics(kSeed, kEpochs));
    EXPECT_EQ(ReadJobFile(id, "checkpoints/epoch-000009/pytorch_lora_weights.safetensors"),
              "LoRA of seed 3 after 9 epochs");
    std::vector<int64_t> epochs;
    for (const v1::JobEvent& event : Watch(id, 1)) {
      if (event.has_epoch()) epochs.push_back(event.epoch().epoch());
    }
    EXPECT_THAT(epochs, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  }
};

TEST_F(PauseTest, AnOutageOfARewardServiceEndsByItself) {
  const v1::Job job = RunUntil(4);
  workers_->FailJob(
      1, PausesJob(absl::FailedPreconditionError("it is away"), "reward service 'taste'"));
  const v1::Job paused = WaitFor(job.id(), v1::PAUSED);
  EXPECT_EQ(paused.state_reason(), "it is away");
  EXPECT_EQ(paused.progress().waiting_for(), "reward service 'taste'");
  script_.epochs_allowed = kAllEpochs;
  rewards_are_there_ = true;
  ExpectUndisturbed(job.id(), 4);
  EXPECT_EQ(Get(job.id()).progress().waiting_for(), "");
}

TEST_F(PauseTest, AtTheEndOfTheEpoch) {
  const std::string id = RunUntil(4).id();
  EXPECT_EQ(MustPause(id), v1::PAUSING);
  EXPECT_EQ(Get(id).state(), v1::PAUSING);
  script_.epochs_allowed = 5;
  EXPECT_EQ(WaitFor(id, v1::PAUSED).progress().epoch(), 5);
  EXPECT_EQ(ReadJobFile(id, "checkpoints/epoch-000005/optimizer.safetensors"), "moments after 5");
  EXPECT_EQ(ReadJobFile(id, "metrics.jsonl"), ExpectedMetrics(kSeed, 5));
  // Its ranks are free.
  script_.epochs_allowed = kAllEpochs;
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  ExpectUndisturbedAfterResume(id, 5);
  EXPECT_THAT(States(Watch(id, 1)),
              ElementsAre(v1::QUEUED, v1::STARTING, v1::RUNNING, v1::PAUSING, v1::PAUSED,
                          v1::QUEUED, v1::STARTING, v1::RUNNING, v1::SUCCEEDED));
}

TEST_F(PauseTest, AtOnceAfterTheLastFinishedEpoch) {
  const std::string id = RunUntil(4).id();
  script_.epochs_allowed = 5;
  WaitForEpoch(id, 5);
  EXPECT_EQ(MustPause(id, true), v1::PAUSING);
  EXPECT_EQ(WaitFor(id, v1::PAUSED).progress().epoch(), 5);
  ExpectUndisturbedAfterResume(id, 5);
}

TEST_F(PauseTest, OverAStopAndADeathOfTheService) {
  const std::string id = RunUntil(4).id();
  MustPause(id, true);
  WaitFor(id, v1::PAUSED);
  EXPECT_EQ(Stop(), Controller::ExitReason::kStopped);
  script_.epochs_allowed = kAllEpochs;
  Start();
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  EXPECT_EQ(Get(id).state(), v1::PAUSED);
  Crash();
  Start();
  EXPECT_EQ(Get(id).state(), v1::PAUSED);
  ExpectUndisturbedAfterResume(id, 4);
}

TEST_F(PauseTest, TheServiceDiesMeanwhile) {
  const std::string id = RunUntil(4).id();
  EXPECT_EQ(MustPause(id), v1::PAUSING);
  Crash();
  Start();
  EXPECT_THAT(WaitFor(id, v1::PAUSED).state_reason(), HasSubstr("the service died"));
  ExpectUndisturbedAfterResume(id, 4);
}

TEST_F(PauseTest, AWaitingJobIsPausedAtOnce) {
  script_.epochs_allowed = 0;
  Start();
  const std::string running = MustSubmit(JobOf(1)).id();
  v1::JobSpec spec = JobOf(kEpochs);
  spec.set_seed(kSeed);
  const std::string id = MustSubmit(spec).id();
  EXPECT_EQ(MustPause(id), v1::PAUSED);
  script_.epochs_allowed = kAllEpochs;
  WaitFor(running, v1::SUCCEEDED);
  EXPECT_EQ(Get(id).state(), v1::PAUSED);
  ExpectUndisturbedAfterResume(id, -1);
}

TEST_F(PauseTest, ACancelledJobIsResumed) {
  const std::string id = RunUntil(4).id();
  script_.epochs_allowed = 5;
  WaitForEpoch(id, 5);
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_id(id);
  v1::Job job;
  ASSERT_TRUE(stub().CancelJob(&context, request, &job).ok());
  EXPECT_TRUE(WaitFor(id, v1::CANCELLED).has_end_time());
  ASSERT_EQ(Stop(), Controller::ExitReason::kStopped);
  Start();
  ExpectUndisturbedAfterResume(id, 5);
}

TEST_F(PauseTest, AFailedJobIsResumed) {
  script_.fails_to_load = true;
  Start();
  v1::JobSpec spec = JobOf(kEpochs);
  spec.set_seed(kSeed);
  const std::string id = MustSubmit(spec).id();
  WaitFor(id, v1::FAILED);
  script_.fails_to_load = false;
  ExpectUndisturbedAfterResume(id, 0);
}

TEST_F(PauseTest, FromAnEarlierCheckpoint) {
  const std::string id = RunUntil(4).id();
  MustPause(id);
  script_.epochs_allowed = 5;
  WaitFor(id, v1::PAUSED);
  v1::Job job;
  const grpc::Status refused = Resume(id, 3, &job);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("those that there are: 2, 4, 5"));
  EXPECT_EQ(Get(id).state(), v1::PAUSED);
  ExpectUndisturbedAfterResume(id, 2, 2);
}

TEST_F(PauseTest, ACheckpointOnDemand) {
  const std::string id = RunUntil(4).id();
  grpc::ClientContext context;
  v1::CheckpointJobRequest request;
  request.set_id(id);
  v1::Job job;
  ASSERT_TRUE(stub().CheckpointJob(&context, request, &job).ok());
  EXPECT_EQ(job.state(), v1::RUNNING);
  script_.epochs_allowed = 5;
  WaitForCheckpoint(id, 5);
  EXPECT_EQ(Get(id).state(), v1::RUNNING);
  script_.epochs_allowed = kAllEpochs;
  ExpectUndisturbed(id, -1);
}

TEST_F(PauseTest, WhatIsRefusedSaysWhatToDo) {
  const std::string id = RunUntil(2).id();
  v1::Job job;
  const grpc::Status running = Resume(id, std::nullopt, &job);
  EXPECT_EQ(running.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(running.error_message(), HasSubstr("only a job that is PAUSED, FAILED or CANCELLED"));
  EXPECT_EQ(Get(id).state(), v1::RUNNING);
  EXPECT_EQ(Pause("job-000042", false, &job).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Resume("job-000042", 1, &job).error_code(), grpc::StatusCode::NOT_FOUND);
  script_.epochs_allowed = kAllEpochs;
  WaitFor(id, v1::SUCCEEDED);
  EXPECT_EQ(Pause(id, false, &job).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(Resume(id, std::nullopt, &job).error_message(), HasSubstr("SUCCEEDED"));
}

TEST_F(PauseTest, AStopLosesNoFinishedEpoch) {
  const std::string id = RunUntil(4).id();
  script_.epochs_allowed = 5;
  WaitForEpoch(id, 5);
  // The state follows its epoch's report at once.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(Stop(), Controller::ExitReason::kStopped);
  script_.epochs_allowed = kAllEpochs;
  Start();
  ExpectUndisturbed(id, 5);
}

TEST_F(PauseTest, AStopWaitsForTheEpochUnderWay) {
  cluster_.pool.drain_seconds = 15;
  const std::string id = RunUntil(4).id();
  std::thread later([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));  // The stop has begun.
    script_.epochs_allowed = 5;
  });
  EXPECT_EQ(Stop(), Controller::ExitReason::kStopped);
  later.join();
  script_.epochs_allowed = kAllEpochs;
  Start();
  ExpectUndisturbed(id, 5);
}

}  // namespace
}  // namespace imageddpo
