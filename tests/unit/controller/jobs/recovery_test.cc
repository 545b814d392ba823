#include "trainer/controller/jobs/recovery.h"

#include "gmock/gmock.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecoveryTest : public StoredJobsTest {
 protected:
  RecoveryTest() { Restart(); }

  void Restart() {
    ReopenStore();
    pool_ = std::make_unique<Scheduler>(std::vector<int>{1, 2});
    recovery_ = std::make_unique<Recovery>(2, *table_, *pool_);
    ASSERT_TRUE(recovery_->ResumeStored().ok());
    for (const int rank : {1, 2}) {
      v1::Hello hello;
      hello.set_hostname("host");
      hello.set_cores(4);
      pool_->WorkerReported(rank, hello);
    }
  }
  std::vector<std::string> JobsThatGetRanks() {
    std::vector<std::string> ids;
    for (const Scheduler::Gang& gang : pool_->FormGangs()) ids.push_back(gang.job_id);
    return ids;
  }

  std::unique_ptr<Scheduler> pool_;
  std::unique_ptr<Recovery> recovery_;
};

TEST_F(RecoveryTest, EachLossIsChargedUntilTheRestartsAreUsedUp) {
  JobRecord& record = Add(SpecOf(1));
  Move(record, {v1::STARTING, v1::RUNNING});
  EXPECT_FALSE(recovery_->charged());
  for (int restart = 1; restart <= 2; ++restart) {
    recovery_->Recover(record, "rank 1: died");
    EXPECT_EQ(record.job.state(), v1::RECOVERING);
    EXPECT_EQ(record.job.state_reason(), "rank 1: died");
    EXPECT_EQ(record.restarts_without_epoch, restart);
    Move(record, {v1::STARTING});
  }
  EXPECT_TRUE(recovery_->charged());
  recovery_->Recover(record, "rank 1: died");
  EXPECT_EQ(Stored(record.job.id()).state(), v1::FAILED);
  EXPECT_EQ(Stored(record.job.id()).state_reason(),
            "rank 1: died; it was restarted 2 times before without finishing a new epoch, so it "
            "is not tried again");
}

TEST_F(RecoveryTest, ThoseThatRanComeFirst) {
  JobRecord& first = Add(SpecOf(1));
  JobRecord& second = Add(SpecOf(2));
  Move(second, {v1::STARTING});
  recovery_->Recover(second, "x");
  recovery_->Requeue(first);
  recovery_->Requeue(second);
  EXPECT_THAT(JobsThatGetRanks(), ElementsAre(second.job.id()));
  JobRecord& running = Add(SpecOf(1));
  Move(running, {v1::STARTING});
  recovery_->Requeue(running);  // Waits for nothing.
  pool_->Release(second.job.id());
  EXPECT_THAT(JobsThatGetRanks(), ElementsAre(first.job.id()));
}

TEST_F(RecoveryTest, AnOrderlyEndIsNotCharged) {
  JobRecord& running = Add(SpecOf(1));
  Move(running, {v1::STARTING, v1::RUNNING});
  JobRecord& cancelled = Add(SpecOf(1));
  Move(cancelled, {v1::STARTING, v1::CANCELLING});
  JobRecord& waiting = Add(SpecOf(1));
  const std::string id = running.job.id(), cancelled_id = cancelled.job.id();
  recovery_->Interrupt("the service was stopped");
  EXPECT_EQ(running.restarts_without_epoch, 0);
  EXPECT_FALSE(recovery_->charged());
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_EQ(Stored(id).state_reason(), "the service was stopped");
  EXPECT_EQ(Stored(cancelled_id).state(), v1::CANCELLED);
  const std::string waiting_id = waiting.job.id();
  EXPECT_EQ(Stored(waiting_id).state(), v1::QUEUED);
  Restart();
  EXPECT_FALSE(recovery_->charged());
  EXPECT_THAT(JobsThatGetRanks(), ElementsAre(id, waiting_id));
}

TEST_F(RecoveryTest, ADeadServiceIsChargedToTheJobsThatHeldRanks) {
  JobRecord& running = Add(SpecOf(1));
  Move(running, {v1::STARTING, v1::RUNNING});
  JobRecord& cancelled = Add(SpecOf(1));
  Move(cancelled, {v1::STARTING, v1::CANCELLING});
  const std::string id = running.job.id(), cancelled_id = cancelled.job.id();
  Restart();
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("the service died while the job ran"));
  EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 1);
  EXPECT_TRUE(recovery_->charged());
  EXPECT_EQ(Stored(cancelled_id).state(), v1::CANCELLED);
  EXPECT_THAT(JobsThatGetRanks(), ElementsAre(id));
}

TEST_F(RecoveryTest, AJobThatIsBeingPausedIsPausedHoweverTheServiceEnds) {
  for (const bool dies : {false, true}) {
    JobRecord& pausing = Add(SpecOf(1));
    Move(pausing, {v1::STARTING, v1::RUNNING, v1::PAUSING});
    JobRecord& paused = Add(SpecOf(1));
    Move(paused, {v1::PAUSED});
    const std::string id = pausing.job.id(), paused_id = paused.job.id();
    if (!dies) recovery_->Interrupt("the service was stopped");
    Restart();
    EXPECT_EQ(Stored(id).state(), v1::PAUSED);
    EXPECT_THAT(Stored(id).state_reason(), HasSubstr("paused by request"));
    EXPECT_EQ(Stored(paused_id).state(), v1::PAUSED);
    EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 0);
    EXPECT_THAT(JobsThatGetRanks(), ::testing::IsEmpty());
  }
}

TEST_F(RecoveryTest, AStoredJobThatThisVersionCannotRunFailsAndSaysWhy) {
  v1::JobSpec spec = SpecOf(1);
  spec.mutable_train()->set_optimizer("an optimizer that went");
  const std::string id = Add(spec).job.id();
  Restart();
  EXPECT_EQ(Stored(id).state(), v1::FAILED);
  EXPECT_THAT(Stored(id).state_reason(), ::testing::HasSubstr("`train.optimizer`"));
}

}  // namespace
}  // namespace imageddpo
