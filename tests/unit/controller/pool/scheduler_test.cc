#include "trainer/controller/pool/scheduler.h"

#include <cstdint>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::JobSpec SpecOf(int rollout, int trainer) {
  v1::JobSpec spec;
  spec.mutable_sample()->set_batch_size(64);
  spec.mutable_sample()->set_num_batches_per_epoch(1);
  spec.mutable_train()->set_batch_size(64);
  spec.mutable_train()->set_gradient_accumulation_steps(1);
  spec.mutable_device()->set_device_batch_size(1);
  if (trainer == 0) {
    spec.mutable_topology()->set_colocated(rollout);
  } else {
    spec.mutable_topology()->set_rollout(rollout);
    spec.mutable_topology()->set_trainer(trainer);
  }
  return spec;
}
v1::JobSpec Colocated(int ranks) { return SpecOf(ranks, 0); }

class SchedulerTest : public testing::Test {
 protected:
  static Scheduler PoolOf(const std::vector<std::string>& hosts,
                          const Scheduler::Options& options = {}) {
    std::vector<int> ranks;
    for (size_t i = 0; i < hosts.size(); ++i) ranks.push_back(static_cast<int>(i) + 1);
    Scheduler scheduler(ranks, options);
    for (size_t i = 0; i < hosts.size(); ++i) {
      v1::Hello hello;
      hello.set_hostname(hosts[i]);
      hello.set_cores(16);
      scheduler.WorkerReported(ranks[i], hello);
    }
    return scheduler;
  }
  static std::vector<int> RanksOf(const std::vector<Scheduler::Gang>& gangs,
                                  const std::string& id) {
    for (const Scheduler::Gang& gang : gangs) {
      if (gang.job_id == id) return gang.world_ranks;
    }
    return {};
  }
};

TEST_F(SchedulerTest, WorkersCountOnceTheyHaveReported) {
  Scheduler scheduler({1, 2});
  EXPECT_EQ(scheduler.pool_size(), 2);
  EXPECT_EQ(scheduler.num_free(), 0);
  EXPECT_FALSE(scheduler.AllReported());
  scheduler.Enqueue(1, "a", Judged(Colocated(1)));
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  v1::Hello hello;
  hello.set_cores(4);
  scheduler.WorkerReported(2, hello);
  scheduler.WorkerReported(9, hello);  // There is no rank 9.
  EXPECT_EQ(scheduler.num_free(), 1);
  EXPECT_EQ(RanksOf(scheduler.FormGangs(), "a"), std::vector<int>{2});
}

TEST_F(SchedulerTest, RolloutRanksComeFirst) {
  Scheduler scheduler = PoolOf({"h", "h", "h", "h"});
  scheduler.Enqueue(1, "a", Judged(SpecOf(2, 1)));
  const auto gangs = scheduler.FormGangs();
  ASSERT_THAT(gangs, SizeIs(1));
  EXPECT_THAT(gangs[0].world_ranks, ElementsAre(1, 2, 3));
  EXPECT_EQ(gangs[0].topology.rollout, 2);
  EXPECT_EQ(gangs[0].topology.trainer, 1);
}

TEST_F(SchedulerTest, SeveralJobsRunAtOnceOnDisjointRanks) {
  Scheduler scheduler = PoolOf({"h", "h", "h", "h", "h"});
  scheduler.Enqueue(1, "a", Judged(Colocated(2)));
  scheduler.Enqueue(2, "b", Judged(SpecOf(1, 1)));
  scheduler.Enqueue(3, "c", Judged(Colocated(2)));
  const auto gangs = scheduler.FormGangs();
  EXPECT_THAT(RanksOf(gangs, "a"), ElementsAre(1, 2));
  EXPECT_THAT(RanksOf(gangs, "b"), ElementsAre(3, 4));
  EXPECT_THAT(RanksOf(gangs, "c"), IsEmpty());
  EXPECT_EQ(scheduler.WaitReasons().at("c"), "waits for 2 free workers: 1 of 5 are free");
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  scheduler.Release("b");
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "c"), ElementsAre(3, 4));
  EXPECT_THAT(scheduler.WaitReasons(), IsEmpty());
}

TEST_F(SchedulerTest, NobodyOvertakes) {
  Scheduler scheduler = PoolOf({"h", "h", "h"});
  scheduler.Enqueue(1, "a", Judged(Colocated(2)));
  EXPECT_THAT(scheduler.FormGangs(), SizeIs(1));
  scheduler.Enqueue(3, "small", Judged(Colocated(1)));
  scheduler.Enqueue(2, "large", Judged(Colocated(3)));
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  EXPECT_EQ(scheduler.WaitReasons().at("small"), "waits behind large");
  scheduler.Release("a");
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "large"), ElementsAre(1, 2, 3));
  scheduler.RemoveFromQueue("small");
  EXPECT_THAT(scheduler.WaitReasons(), IsEmpty());
}

TEST_F(SchedulerTest, AJobLargerThanTheShrunkenPoolWaitsForTheRestartAndIsNotOvertaken) {
  Scheduler scheduler = PoolOf({"h", "h", "h"});
  scheduler.Enqueue(1, "large", Judged(Colocated(3)));
  EXPECT_EQ(scheduler.WaitsForTheDead(), "");
  EXPECT_EQ(scheduler.WorkerFailed(2), "");
  EXPECT_EQ(scheduler.pool_size(), 2);
  EXPECT_EQ(scheduler.num_dead(), 1);
  EXPECT_TRUE(scheduler.AllReported());
  scheduler.Enqueue(2, "small", Judged(Colocated(2)));
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  EXPECT_EQ(scheduler.WaitsForTheDead(), "large");
  EXPECT_THAT(scheduler.WaitReasons().at("large"),
              HasSubstr("as soon as no job runs: 1 of 3 workers died"));
  EXPECT_THAT(scheduler.WaitReasons().at("large"), HasSubstr("the pool has 2"));
  EXPECT_EQ(scheduler.WaitReasons().at("small"), "waits behind large");
}

TEST_F(SchedulerTest, AJobOfALargerPoolHoldsNobodyUp) {
  Scheduler scheduler = PoolOf({"h", "h"});
  scheduler.Enqueue(1, "large", Judged(Colocated(3)));
  scheduler.Enqueue(2, "small", Judged(Colocated(2)));
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "small"), ElementsAre(1, 2));
  EXPECT_THAT(scheduler.WaitReasons().at("large"), HasSubstr("waits for more workers"));
  EXPECT_EQ(scheduler.WaitsForTheDead(), "");
}

TEST_F(SchedulerTest, AJobThatRecoversTakesWhatIsFreeWhereItMayBeSmaller) {
  Scheduler scheduler = PoolOf({"h", "h", "h", "h", "h"});
  scheduler.Enqueue(1, "other", Judged(Colocated(2)));
  scheduler.FormGangs();
  scheduler.WorkerFailed(5);
  v1::JobSpec spec = SpecOf(2, 1);
  scheduler.Enqueue(3, "waits", Judged(spec), {.recovers = true});
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  EXPECT_EQ(scheduler.WaitReasons().at("waits"), "waits for 3 free workers: 2 of 4 are free");
  scheduler.RemoveFromQueue("waits");
  spec.mutable_topology()->set_min_rollout(1);
  scheduler.Enqueue(2, "new", Judged(spec));
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());  // It has lost nothing: it waits for all three.
  scheduler.Enqueue(3, "smaller", Judged(spec),
                    {.recovers = true});  // What ran before comes first.
  const auto gangs = scheduler.FormGangs();
  ASSERT_THAT(gangs, SizeIs(1));
  EXPECT_EQ(gangs[0].job_id, "smaller");
  EXPECT_EQ(gangs[0].topology.ToString(), "rollout 1, trainer 1");
}

TEST_F(SchedulerTest, AJobThatRecoversWaitsForWorkersThatAreStillStarting) {
  Scheduler scheduler({1, 2});
  v1::JobSpec spec = Colocated(1);
  spec.clear_topology();
  scheduler.Enqueue(1, "a", Judged(spec), {.recovers = true});
  v1::Hello hello;
  hello.set_cores(4);
  scheduler.WorkerReported(1, hello);
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  scheduler.WorkerReported(2, hello);
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "a"), ElementsAre(1, 2));
}

TEST_F(SchedulerTest, TellsWhoseRankDied) {
  Scheduler scheduler = PoolOf({"h", "h", "h"});
  scheduler.Enqueue(1, "a", Judged(Colocated(2)));
  scheduler.FormGangs();
  EXPECT_EQ(scheduler.WorkerFailed(2), "a");
  EXPECT_EQ(scheduler.WorkerFailed(2), "");
  EXPECT_EQ(scheduler.WorkerFailed(3), "");
  scheduler.Release("a");
  EXPECT_EQ(scheduler.num_free(), 1);
}

TEST_F(SchedulerTest, TheSameHostFirst) {
  Scheduler scheduler = PoolOf({"a", "b", "a", "b", "a", "c"});
  scheduler.Enqueue(1, "pair", Judged(Colocated(2)));
  scheduler.Enqueue(2, "single", Judged(Colocated(1)));
  scheduler.Enqueue(3, "spread", Judged(Colocated(3)));
  const auto gangs = scheduler.FormGangs();
  EXPECT_THAT(RanksOf(gangs, "pair"), ElementsAre(2, 4));  // b holds just two: a stays whole.
  EXPECT_THAT(RanksOf(gangs, "single"), ElementsAre(6));   // The smallest hole.
  EXPECT_THAT(RanksOf(gangs, "spread"), ElementsAre(1, 3, 5));
}

TEST_F(SchedulerTest, AcrossHostsWhereNoneIsLargeEnough) {
  Scheduler scheduler = PoolOf({"a", "b", "b", "c"});
  scheduler.Enqueue(1, "wide", Judged(Colocated(3)));
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "wide"), ElementsAre(2, 3, 1));
}

TEST_F(SchedulerTest, AutoFitsThePool) {
  v1::JobSpec spec = Colocated(1);
  spec.clear_topology();
  Scheduler one = PoolOf({"h"});
  one.Enqueue(1, "a", Judged(spec));
  EXPECT_EQ(one.FormGangs().at(0).topology.ToString(), "colocated 1");
  Scheduler four = PoolOf({"h", "h", "h", "h"});
  four.Enqueue(1, "a", Judged(spec));
  const Scheduler::Gang gang = four.FormGangs().at(0);
  EXPECT_EQ(gang.topology.ToString(), "colocated 4");
  EXPECT_THAT(gang.topology_reason, HasSubstr("colocated 4: an epoch is predicted to take"));
}

TEST_F(SchedulerTest, AutoFitsWhatIsLeft) {
  v1::JobSpec spec = Colocated(1);
  spec.clear_topology();
  Scheduler scheduler = PoolOf({"h", "h", "h", "h"});
  scheduler.WorkerFailed(1);
  scheduler.Enqueue(1, "a", Judged(spec), {.recovers = true});
  EXPECT_EQ(scheduler.FormGangs().at(0).topology.ToString(), "colocated 3");
  scheduler.WorkerFailed(2);
  scheduler.WorkerFailed(3);
  scheduler.Release("a");
  scheduler.Enqueue(1, "a", Judged(spec), {.recovers = true});
  EXPECT_EQ(scheduler.FormGangs().at(0).topology.ToString(), "colocated 1");
}

TEST_F(SchedulerTest, AutoInTwoPartsStaysInTwoParts) {
  v1::JobSpec spec = Colocated(1);
  spec.clear_topology();
  spec.mutable_train()->set_gradient_shards(1);  // One trainer: more ranks can only sample.
  Scheduler scheduler = PoolOf({"h", "h", "h", "h"});
  scheduler.WorkerFailed(1);
  scheduler.Enqueue(1, "a", Judged(spec), {.recovers = true});
  EXPECT_EQ(scheduler.FormGangs().at(0).topology.ToString(), "rollout 2, trainer 1");
  scheduler.WorkerFailed(2);
  scheduler.WorkerFailed(3);
  scheduler.Release("a");
  scheduler.Enqueue(1, "a", Judged(spec), {.recovers = true});
  EXPECT_THAT(scheduler.FormGangs(), IsEmpty());
  EXPECT_EQ(scheduler.WaitsForTheDead(), "a");
}

TEST_F(SchedulerTest, KnowsItsHosts) {
  Scheduler scheduler({1, 2, 3});
  v1::Hello hello;
  hello.set_hostname("a");
  hello.set_cores(8);
  scheduler.WorkerReported(1, hello);
  scheduler.WorkerReported(2, hello);
  hello.set_hostname("b");
  hello.set_cores(4);
  scheduler.WorkerReported(3, hello);
  EXPECT_EQ(scheduler.MinCoresPerHost(), 4);
  EXPECT_EQ(scheduler.MaxWorkersPerHost(), 2);
}

TEST_F(SchedulerTest, WhatWouldMakeRoomAtOnceIsNotStarted) {
  for (const bool preempts : {false, true}) {
    Scheduler scheduler = PoolOf({"a", "a", "a", "a"}, {.preempts = preempts});
    scheduler.Enqueue(1, "runs", Judged(Colocated(3)));
    EXPECT_THAT(scheduler.FormGangs(), SizeIs(1));
    scheduler.Enqueue(2, "head", Judged(Colocated(2)), {.priority = 5});
    scheduler.Enqueue(3, "low", Judged(Colocated(1)), {.priority = 4});
    // The rank that is free does not help the head, which needs one of those at work beside it.
    EXPECT_THAT(RanksOf(scheduler.FormGangs(), "low"), SizeIs(preempts ? 0 : 1));
    EXPECT_TRUE(scheduler.IsQueued("head"));
    EXPECT_EQ(scheduler.IsQueued("low"), preempts);
    EXPECT_EQ(scheduler.ToPreempt({}).from,
              preempts ? std::vector<std::string>{"runs"} : std::vector<std::string>());
  }
}

TEST_F(SchedulerTest, AJobOfTheHeadsPriorityIsStartedWhereItDelaysNobody) {
  Scheduler scheduler = PoolOf({"a", "a", "a", "a"}, {.preempts = true});
  scheduler.Enqueue(1, "runs", Judged(Colocated(3)));
  EXPECT_THAT(scheduler.FormGangs(), SizeIs(1));
  scheduler.Enqueue(2, "head", Judged(Colocated(2)), {.priority = 5});
  scheduler.Enqueue(3, "equal", Judged(Colocated(1)), {.priority = 5});
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "equal"), SizeIs(1));
}

TEST_F(SchedulerTest, ItsVersionTellsOfEachChange) {
  Scheduler scheduler = PoolOf({"a", "a"});
  uint64_t version = scheduler.version();
  const auto changed = [&] {
    const uint64_t before = std::exchange(version, scheduler.version());
    return before != version;
  };
  scheduler.FormGangs();
  EXPECT_FALSE(changed());
  scheduler.Enqueue(1, "a", Judged(Colocated(1)));
  EXPECT_TRUE(changed());
  scheduler.FormGangs();
  EXPECT_TRUE(changed());
  scheduler.SetDrained(2, true);
  EXPECT_TRUE(changed());
  scheduler.Release("a");
  EXPECT_TRUE(changed());
  scheduler.WorkerFailed(1);
  EXPECT_TRUE(changed());
}

TEST_F(SchedulerTest, AHeldJobKeepsItsPlaceAndOthersGoPastIt) {
  Scheduler scheduler = PoolOf({"a", "a"});
  for (const auto& [number, id] : {std::pair(1, "first"), {2, "second"}, {3, "third"}}) {
    scheduler.Enqueue(number, id, Judged(Colocated(2)));
  }
  scheduler.Hold("first", "waits for the disk");
  EXPECT_EQ(scheduler.WaitReasons().at("first"), "waits for the disk");
  EXPECT_EQ(scheduler.WaitReasons().at("second"), "waits for 2 free workers: 2 of 2 are free");
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "second"), SizeIs(2));
  scheduler.Release("second");
  scheduler.ReleaseHolds();
  EXPECT_THAT(RanksOf(scheduler.FormGangs(), "first"), SizeIs(2));
}

}  // namespace
}  // namespace imageddpo
