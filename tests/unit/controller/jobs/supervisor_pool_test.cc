// The pool after deaths of workers.

#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(SupervisorTest, AJobThatStillFitsWaitsForFreeWorkers) {
  const std::string other = Submit(SpecOf(1)).id();
  const std::string hit = Submit(SpecOf(2)).id();
  Progress(1, other, "sampling");
  supervisor_->OnFailure(3, "process died");
  Ended(2, hit, absl::AbortedError("the gang was aborted"));
  clock_.Advance(10000);
  supervisor_->Tick();
  EXPECT_EQ(Stored(hit).state(), v1::RECOVERING);
  EXPECT_EQ(hub_->Reason(hit), "waits for 2 free workers: 1 of 2 are free");
  Checkpoint(1, other, 4);
  Ended(1, other);
  supervisor_->Tick();
  EXPECT_EQ(Stored(hit).state(), v1::STARTING);
  EXPECT_EQ(supervisor_->restart_reason(), "");
}

TEST_F(SupervisorTest, TheRestartThatAJobNeedsWaitsForTheOthers) {
  const std::string other = Submit(SpecOf(1)).id();
  Progress(1, other, "sampling");
  supervisor_->OnFailure(3, "process died");         // It was idle.
  const std::string large = Submit(SpecOf(3)).id();  // Larger than what is left, not than the pool.
  const std::string small = Submit(SpecOf(1)).id();
  clock_.Advance(10000);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "");
  EXPECT_THAT(hub_->Reason(large), HasSubstr("1 of 3 workers died"));
  EXPECT_EQ(hub_->Reason(small), "waits behind " + large);
  Checkpoint(1, other, 4);
  Ended(1, other);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(),
            "1 of 3 workers died; job-000002 needs more than are left");
  EXPECT_TRUE(supervisor_->jobs_moved());
}

TEST_F(SupervisorTest, LargerThanThePoolIsRefusedWithItsSize) {
  supervisor_->OnFailure(3, "process died");
  const absl::Status status = supervisor_->jobs().Submit({Judged(SpecOf(4)), "", "h"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("asks for 4 workers"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("the pool has 3"));
}

TEST_F(SupervisorTest, APoolThatLostWorkersToAJobIsMadeWholeWhenItIsIdle) {
  const std::string id = Submit(SpecOf(1)).id();
  supervisor_->OnFailure(1, "process died");
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);  // On rank 2.
  clock_.Advance(10000);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "");
  Checkpoint(2, id, 4);
  Ended(2, id);
  supervisor_->Tick();
  clock_.Advance(1);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "");
  clock_.Advance(1.5);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "1 of 3 workers died and no job runs");
}

TEST_F(SupervisorTest, AnIdleWorkersDeathIsMadeGoodMuchLater) {
  supervisor_->OnFailure(1, "process died");
  clock_.Advance(590);
  supervisor_->Tick();
  EXPECT_EQ(supervisor_->restart_reason(), "");
  clock_.Advance(20);
  supervisor_->Tick();
  EXPECT_NE(supervisor_->restart_reason(), "");
  EXPECT_FALSE(supervisor_->jobs_moved());
}

TEST_F(SupervisorTest, ACrashNamesItsSignal) {
  const std::string id = Submit(SpecOf(1)).id();
  for (int death = 1; death <= 3; ++death) {
    v1::WorkerMessage message;
    message.mutable_crashed()->set_signal(11);
    supervisor_->OnMessage(death, message);
    EXPECT_EQ(Stored(id).state_reason(), "rank " + std::to_string(death) + " (pid " +
                                             std::to_string(1000 + death) +
                                             " on host): the process has died of signal 11 "
                                             "(SIGSEGV)");
    supervisor_->OnFailure(death, "the process has died");  // MPI sees it too: known already.
    supervisor_->Tick();
  }
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(supervisor_->restart_reason(), HasSubstr("0 workers are left"));
  EXPECT_TRUE(supervisor_->jobs_moved());
}

TEST_F(SupervisorTest, ALostWorkerIsKilledByAnotherOfItsHost) {
  for (const int rank : {1, 2, 3}) {
    v1::WorkerMessage message;
    message.mutable_hello()->set_cores(8);
    message.mutable_hello()->set_pid(1000 + rank);
    message.mutable_hello()->mutable_process()->set_host(rank == 1 ? "a" : "b");
    message.mutable_hello()->mutable_process()->set_pid(1000 + rank);
    message.mutable_hello()->mutable_process()->set_start_ticks(5);
    supervisor_->OnMessage(rank, message);
  }
  supervisor_->OnFailure(2, "no heartbeat for 10.1 s");
  EXPECT_THAT(TakeSent(1), IsEmpty());
  const auto sent = TakeSent(3);
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(sent[0].kill_process().world_rank(), 2);
  EXPECT_EQ(sent[0].kill_process().process().pid(), 1002);
  EXPECT_EQ(sent[0].kill_process().process().host(), "b");
  supervisor_->OnFailure(3, "no heartbeat for 10.1 s");  // Nobody is left there.
  EXPECT_THAT(sent_, IsEmpty());
}

TEST_F(SupervisorTest, ARankThatCannotStartEndsTheServiceWithTheFirstReason) {
  EXPECT_EQ(supervisor_->refusal(), "");
  for (const int rank : {2, 3}) {
    v1::WorkerMessage message;
    message.mutable_refused()->set_host("node-b");
    message.mutable_refused()->set_reason("cluster.yaml cannot be read");
    supervisor_->OnMessage(rank, message);
  }
  EXPECT_EQ(supervisor_->refusal(), "rank 2 on node-b cannot start: cluster.yaml cannot be read");
  EXPECT_EQ(supervisor_->restart_reason(), "") << "a restart would not help";
}

}  // namespace
}  // namespace imageddpo
