#include "trainer/controller/pool/pool_health.h"

#include <prometheus/text_serializer.h>

#include "common/base/logging.h"
#include "common/base/process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PoolHealthTest : public testing::Test {
 protected:
  PoolHealthTest() {
    for (const int rank : {1, 2, 3}) Hello(rank, {"elsewhere", 1000 + rank, 5});
  }

  void Hello(int rank, const ProcessId& process) {
    v1::Hello hello;
    hello.set_hostname("host");
    hello.set_pid(process.pid);
    hello.set_cores(8);
    hello.mutable_process()->set_host(process.host);
    hello.mutable_process()->set_pid(process.pid);
    hello.mutable_process()->set_start_ticks(process.start_ticks);
    scheduler_.WorkerReported(rank, hello);
  }

  FakeClock clock_;
  prometheus::Registry registry_;
  ServiceMetrics metrics_{registry_, {}, std::chrono::system_clock::now()};
  Scheduler scheduler_{{1, 2, 3}};
  std::vector<std::pair<int, v1::ControllerMessage>> sent_;
  std::vector<std::string> lost_;
  PoolHealth health_{
      {.min_ranks = 2, .idle_seconds = 2, .idle_seconds_without_job = 600},
      {scheduler_, clock_, metrics_, *MakeLogger({.level = "off"}),
       [this](int rank, v1::ControllerMessage message) {
         sent_.emplace_back(rank, std::move(message));
       },
       [this](int, const std::string&, const std::string& what) { lost_.push_back(what); }}};
};

TEST_F(PoolHealthTest, EachDeathIsToldOnce) {
  health_.Lose(1, "no heartbeat for 10.1 s");
  health_.Lose(1, "the process has died");
  health_.Died(1, "the process has died of signal 11 (SIGSEGV)");
  health_.Lose(9, "is no worker");
  EXPECT_THAT(lost_, ElementsAre("rank 1 (pid 1001 on host): no heartbeat for 10.1 s"));
  EXPECT_TRUE(scheduler_.workers().at(1).dead);
  health_.Look(false);
  EXPECT_THAT(prometheus::TextSerializer().Serialize(registry_.Collect()),
              HasSubstr("imageddpo_workers{state=\"dead\"} 1"));
}

TEST_F(PoolHealthTest, AProcessThatEndsByItselfIsNotKilled) {
  health_.Died(1, "the process has died of signal 11 (SIGSEGV)");
  EXPECT_THAT(sent_, IsEmpty());
  EXPECT_THAT(lost_, SizeIs(1));
}

TEST_F(PoolHealthTest, WhileARestartIsPendingKillsWaitUntilAllIsStored) {
  health_.Lose(1, "silent");
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].first, 2);
  EXPECT_EQ(sent_[0].second.kill_process().process().pid(), 1001);
  sent_.clear();
  health_.Lose(2, "silent");  // One is left where two are needed.
  EXPECT_EQ(health_.restart_reason(),
            "lost rank 2 (pid 1002 on host): silent; 1 workers are left where 2 are needed");
  EXPECT_THAT(sent_, IsEmpty());
  health_.KillPostponed();
  health_.KillPostponed();
  ASSERT_THAT(sent_, SizeIs(1));
  EXPECT_EQ(sent_[0].first, 3);
  EXPECT_EQ(sent_[0].second.kill_process().world_rank(), 2);
}

TEST_F(PoolHealthTest, ARestartDisturbsNoJob) {
  health_.Lose(1, "silent");
  clock_.Advance(10000);
  health_.Look(/*jobs_run=*/true);
  EXPECT_EQ(health_.restart_reason(), "");
  clock_.Advance(599);
  health_.Look(false);
  EXPECT_EQ(health_.restart_reason(), "");
  clock_.Advance(2);
  health_.Look(false);
  EXPECT_EQ(health_.restart_reason(), "1 of 3 workers died and no job runs");
}

}  // namespace
}  // namespace imageddpo
