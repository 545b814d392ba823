// Deaths of workers and of the service, in the middle of a job: it goes on from its newest complete
// checkpoint and ends with the files of an undisturbed run.

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Every death restarts the service, unless a test sets another pool.min_ranks.
class RecoveryTest : public ServiceTest {
 protected:
  RecoveryTest() { cluster_.pool.min_ranks = 0; }

  /// Runs a job until `epoch` epochs are trained and holds it there.
  v1::Job RunUntil(int64_t epoch, int64_t num_epochs = 9) {
    script_.epochs_allowed = epoch;
    Start();
    v1::JobSpec spec = JobOf(num_epochs);
    spec.set_seed(3);
    const v1::Job job = MustSubmit(spec);
    return WaitForEpoch(job.id(), epoch);
  }

  /// What an undisturbed run of 9 epochs leaves, and nothing twice.
  void ExpectUndisturbedResult(const v1::Job& job) {
    EXPECT_EQ(ReadJobFile(job.id(), "metrics.jsonl"), ExpectedMetrics(3, 9));
    EXPECT_EQ(ReadJobFile(job.id(), "checkpoints/epoch-000009/pytorch_lora_weights.safetensors"),
              "LoRA of seed 3 after 9 epochs");
    std::vector<int64_t> epochs, checkpoints, evals;
    const std::vector<v1::JobEvent> events = Watch(job.id(), 1);
    for (const v1::JobEvent& event : events) {
      if (event.has_epoch()) epochs.push_back(event.epoch().epoch());
      if (event.has_checkpoint()) checkpoints.push_back(event.checkpoint().epoch());
      if (event.has_eval()) evals.push_back(event.eval().epoch());
    }
    EXPECT_THAT(epochs, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
    EXPECT_THAT(checkpoints, ElementsAre(1, 2, 4, 6, 8, 9));
    EXPECT_THAT(evals, ElementsAre(0, 9));
    for (size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(Numbers(events)[i], static_cast<int64_t>(i) + 1);
    }
  }
};

TEST_F(RecoveryTest, TheServiceIsStoppedAndStartedAgain) {
  const v1::Job job = RunUntil(5);
  EXPECT_EQ(Stop(), Controller::ExitReason::kStopped);
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 1);
  EXPECT_EQ(done.resumed_from_epoch(), 4);
  ASSERT_TRUE(workers_->Started()[0].has_resume_from());
  EXPECT_EQ(workers_->Started()[0].resume_from().lora(), "LoRA of seed 3 after 4 epochs");
  EXPECT_EQ(workers_->Started()[0].resume_from().optimizer(), "moments after 4");
  ExpectUndisturbedResult(done);
  EXPECT_THAT(States(Watch(job.id(), 1)),
              ElementsAre(v1::QUEUED, v1::STARTING, v1::RUNNING, v1::RECOVERING, v1::STARTING,
                          v1::RUNNING, v1::SUCCEEDED));
}

TEST_F(RecoveryTest, EverythingIsKilled) {
  const v1::Job job = RunUntil(5);
  Crash();
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 1);
  EXPECT_EQ(done.resumed_from_epoch(), 4);
  ExpectUndisturbedResult(done);
}

TEST_F(RecoveryTest, KilledBeforeTheFirstCheckpoint) {
  const v1::Job job = RunUntil(0);
  WaitFor(job.id(), v1::RUNNING);
  Crash();
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 1);
  EXPECT_EQ(done.resumed_from_epoch(), 0);
  EXPECT_FALSE(workers_->Started()[0].has_resume_from());
  ExpectUndisturbedResult(done);
}

TEST_F(RecoveryTest, AWorkerDies) {
  const v1::Job job = RunUntil(3);
  workers_->Kill(1, "process died");
  EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 1);
  EXPECT_EQ(done.resumed_from_epoch(), 2);
  ExpectUndisturbedResult(done);
  bool told = false;
  for (const v1::JobEvent& event : Watch(job.id(), 1)) {
    if (event.state().state() != v1::RECOVERING) continue;
    told = true;
    EXPECT_EQ(event.state().reason(), "rank 1 (pid 1001 on host): process died");
  }
  EXPECT_TRUE(told);
}

TEST_F(RecoveryTest, AWorkerDiesAndTheJobGoesOnWithTheOther) {
  cluster_.pool.min_ranks = 1;
  script_.epochs_allowed = 3;
  Start();
  v1::JobSpec spec = JobOf(9);
  spec.set_seed(3);
  spec.mutable_device()->set_device_batch_size(1);
  spec.clear_topology();
  spec.mutable_topology()->set_colocated(2);
  spec.mutable_topology()->set_min_colocated(1);
  const v1::Job job = MustSubmit(spec);
  EXPECT_EQ(WaitForEpoch(job.id(), 3).topology(), "colocated 2");
  workers_->Kill(1, "process died");
  WaitFor(job.id(), v1::RUNNING);
  script_.epochs_allowed = kAllEpochs;
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.topology(), "colocated 1");
  EXPECT_EQ(done.resume_count(), 1);
  EXPECT_EQ(done.resumed_from_epoch(), 2);
  ExpectUndisturbedResult(done);
  // No job runs any more, so the service restarts with all ranks.
  EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
}

TEST_F(RecoveryTest, AJobThatNeedsTheDeadWorkerIsRestartedAtOnce) {
  cluster_.pool.min_ranks = 1;
  script_.epochs_allowed = 3;
  Start();
  v1::JobSpec spec = JobOf(9);
  spec.set_seed(3);
  spec.mutable_topology()->set_rollout(1);
  spec.mutable_topology()->set_trainer(1);
  const v1::Job job = MustSubmit(spec);
  WaitForEpoch(job.id(), 3);
  workers_->Kill(1, "process died");
  EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 1);
  ExpectUndisturbedResult(done);
}

TEST_F(RecoveryTest, AnIdleWorkerDiesAndTheJobOfTheOtherGoesOnAfterTheRestart) {
  script_.epochs_allowed = 2;
  Start();
  v1::JobSpec spec = JobOf(9);
  spec.set_seed(3);
  spec.clear_topology();
  spec.mutable_topology()->set_colocated(1);
  const v1::Job job = MustSubmit(spec);
  WaitForEpoch(job.id(), 2);
  workers_->Kill(2, "process died");  // The job has rank 1.
  EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
  script_.epochs_allowed = kAllEpochs;
  Start();
  ExpectUndisturbedResult(WaitFor(job.id(), v1::SUCCEEDED));
}

TEST_F(RecoveryTest, RanksThatLostEachOtherTryAgainWithoutARestart) {
  const v1::Job job = RunUntil(3);
  workers_->FailJob(2, absl::UnavailableError("rank 1 of the gang does not answer"));
  const v1::Job resumed = [&] {
    v1::Job now = Get(job.id());
    while (now.resume_count() == 0) now = Get(job.id());
    return now;
  }();
  EXPECT_EQ(resumed.resumed_from_epoch(), 2);
  script_.epochs_allowed = kAllEpochs;
  ExpectUndisturbedResult(WaitFor(job.id(), v1::SUCCEEDED));
  const std::vector<v1::StartJob> started = workers_->Started();
  ASSERT_EQ(started.size(), 4u);
  EXPECT_NE(started[0].gang().tag(), started[3].gang().tag());  // Tags are never used twice.
}

TEST_F(RecoveryTest, ADamagedNewestCheckpointFallsBackWithAWarning) {
  const v1::Job job = RunUntil(5);
  Crash();
  std::ofstream(dir_ / "data/jobs/job-000001/checkpoints/epoch-000004/optimizer.safetensors")
      << "Moments after 4";
  script_.epochs_allowed = kAllEpochs;
  Start();
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resumed_from_epoch(), 2);
  ASSERT_EQ(done.warnings_size(), 1);
  EXPECT_THAT(done.warnings(0), HasSubstr("the checkpoint of epoch 4 is damaged"));
  EXPECT_THAT(done.warnings(0), HasSubstr("optimizer.safetensors"));
  EXPECT_EQ(ReadJobFile(job.id(), "metrics.jsonl"), ExpectedMetrics(3, 9));
}

TEST_F(RecoveryTest, AJobThatIsCancelledAtTheCrashIsCancelled) {
  script_.heeds_stop = false;
  const v1::Job job = RunUntil(3);
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_id(job.id());
  v1::Job cancelled;
  ASSERT_TRUE(stub().CancelJob(&context, request, &cancelled).ok());
  EXPECT_EQ(cancelled.state(), v1::CANCELLING);
  Crash();
  Start();
  EXPECT_EQ(WaitFor(job.id(), v1::CANCELLED).resume_count(), 0);
}

TEST_F(RecoveryTest, QueuedJobsSurviveInOrder) {
  const v1::Job running = RunUntil(2);
  const v1::Job second = MustSubmit(JobOf(1));
  const v1::Job third = MustSubmit(JobOf(1));
  Crash();
  script_.epochs_allowed = kAllEpochs;
  Start();
  WaitFor(third.id(), v1::SUCCEEDED);
  EXPECT_EQ(Get(running.id()).state(), v1::SUCCEEDED);
  EXPECT_EQ(Get(second.id()).state(), v1::SUCCEEDED);
  EXPECT_EQ(workers_->Started()[0].job_id(), running.id());
}

TEST_F(RecoveryTest, AJobThatKillsItsWorkersAgainAndAgainFails) {
  script_.epochs_allowed = 0;
  Start();
  const v1::Job job = MustSubmit(JobOf(9));
  for (int death = 0; death <= 3; ++death) {
    WaitFor(job.id(), v1::RUNNING);
    workers_->Kill(2, "process died of signal 11");
    EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
    Start();
  }
  const v1::Job failed = WaitFor(job.id(), v1::FAILED);
  EXPECT_THAT(failed.state_reason(),
              HasSubstr("rank 2 (pid 1002 on host): process died of signal 11"));
  EXPECT_THAT(failed.state_reason(), HasSubstr("restarted 3 times"));
  EXPECT_EQ(failed.resume_count(), 3);
  // The pool is as before and the next job runs.
  script_.epochs_allowed = kAllEpochs;
  WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
}

TEST_F(RecoveryTest, NewEpochsBetweenDeathsAreForgiven) {
  script_.epochs_allowed = 1;
  Start();
  v1::JobSpec spec = JobOf(9);
  spec.set_seed(3);
  const v1::Job job = MustSubmit(spec);
  for (int death = 1; death <= 5; ++death) {
    WaitForEpoch(job.id(), death);
    WaitFor(job.id(), v1::RUNNING);
    workers_->Kill(1, "process died");
    EXPECT_EQ(WaitForExit(), Controller::ExitReason::kRestartAfterWork);
    script_.epochs_allowed = death + 1;
    Start();
  }
  script_.epochs_allowed = kAllEpochs;
  const v1::Job done = WaitFor(job.id(), v1::SUCCEEDED);
  EXPECT_EQ(done.resume_count(), 5);
  ExpectUndisturbedResult(done);
}

TEST_F(RecoveryTest, ASmallerPoolMakesLargerJobsWait) {
  script_.epochs_allowed = 0;
  Start();
  v1::JobSpec spec = JobOf(2);
  spec.mutable_topology()->set_rollout(1);
  spec.mutable_topology()->set_trainer(1);
  const v1::Job large = MustSubmit(spec);
  v1::JobSpec small_spec = JobOf(2);
  small_spec.clear_topology();
  small_spec.mutable_topology()->set_colocated(1);
  const v1::Job small = MustSubmit(small_spec);
  Stop();
  const_cast<std::vector<int>&>(worker_ranks_) = {1};
  script_.epochs_allowed = kAllEpochs;
  Start();
  WaitFor(small.id(), v1::SUCCEEDED);
  WaitForReason(large.id(), "the pool has 1");
}

}  // namespace
}  // namespace imageddpo
