// The queue: shares, backfill, preemption, limited time, held jobs, quotas.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SupervisorQueueTest : public SupervisorTest {
 protected:
  struct Wish {
    int ranks = 1;
    std::string owner = "alice";
    int32_t priority = 0;
    double max_seconds = 0;
    bool hold = false;
  };
  absl::StatusOr<v1::Job> TrySubmit(const Wish& wish) {
    JobService::NewJob job{.job = Judged(SpecOf(wish.ranks)), .request_sha256 = "hash"};
    job.owner = wish.owner;
    job.priority = wish.priority;
    job.max_seconds = wish.max_seconds;
    job.hold = wish.hold;
    return supervisor_->jobs().Submit(std::move(job));
  }
  std::string MustSubmit(const Wish& wish) {
    const absl::StatusOr<v1::Job> job = TrySubmit(wish);
    EXPECT_TRUE(job.ok()) << job.status();
    supervisor_->Tick();
    return job.ok() ? job->id() : "";
  }
  /// The ranks 1 to `ranks` work for the job and have finished an epoch.
  void Train(const std::string& id, int64_t epoch) {
    Epoch(1, id, epoch);
    Checkpoint(1, id, epoch + 1, /*spare=*/true);
  }
};

TEST_F(SupervisorQueueTest, OwnersWhoHaveTakenLessComeFirstAlsoAfterARestart) {
  queue_.fair_share_half_life_s = 3600;
  Restart();
  const std::string greedy = MustSubmit({.ranks = 3, .owner = "alice"});
  clock_.Advance(100);
  supervisor_->Tick();
  Checkpoint(1, greedy, 4);
  for (const int rank : {1, 2, 3}) Ended(rank, greedy);
  const std::string blocks = MustSubmit({.ranks = 3, .owner = "carol"});
  const std::string more = TrySubmit({.ranks = 3, .owner = "alice"})->id();
  const std::string modest = MustSubmit({.ranks = 3, .owner = "bob"});
  EXPECT_EQ(Stored(blocks).state(), v1::STARTING);
  EXPECT_EQ(hub_->Reason(more), "waits behind " + modest);
  supervisor_->Drain("the service was stopped");
  Restart();
  supervisor_->Tick();  // `blocks` recovers, and comes first.
  EXPECT_EQ(Stored(blocks).state(), v1::STARTING);
  EXPECT_EQ(hub_->Reason(more), "waits behind " + modest);
}

TEST_F(SupervisorQueueTest, AQueueThatStandsStillWritesNothing) {
  Submit(SpecOf(3));
  const std::string waits = MustSubmit({.ranks = 3});
  EXPECT_EQ(hub_->Reason(waits), "waits for 3 free workers: 0 of 3 are free");
  const std::string database = dir_.Read("data/jobs.db-wal");
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(1);
    supervisor_->Tick();
  }
  EXPECT_EQ(dir_.Read("data/jobs.db-wal"), database);
  EXPECT_EQ(Stored(waits).state_reason(), "");
}

TEST_F(SupervisorQueueTest, AJobThatEndsInTimeGoesPastOneThatWaits) {
  const std::string runs = MustSubmit({.ranks = 2, .max_seconds = 100});
  const std::string large = MustSubmit({.ranks = 3});
  EXPECT_THAT(hub_->Reason(large), HasSubstr("expected within 2 min"));
  const std::string unknown = MustSubmit({.ranks = 1});
  const std::string too_long = MustSubmit({.ranks = 1, .max_seconds = 101});
  const std::string fits = MustSubmit({.ranks = 1, .max_seconds = 99});
  EXPECT_EQ(Stored(unknown).state(), v1::QUEUED);
  EXPECT_EQ(Stored(too_long).state(), v1::QUEUED);
  EXPECT_EQ(Stored(fits).state(), v1::STARTING);
  EXPECT_EQ(hub_->Reason(unknown), "waits behind " + large);
}

TEST_F(SupervisorQueueTest, WithoutBackfillNobodyGoesPast) {
  queue_.backfill = false;
  Restart();
  MustSubmit({.ranks = 2, .max_seconds = 100});
  MustSubmit({.ranks = 3});
  EXPECT_EQ(Stored(MustSubmit({.ranks = 1, .max_seconds = 9})).state(), v1::QUEUED);
}

TEST_F(SupervisorQueueTest, AJobOfLowerPriorityMakesRoomAtTheEndOfItsEpochAndGoesOnByItself) {
  queue_.preempts = true;
  Restart();
  const std::string low = MustSubmit({.ranks = 3});
  Train(low, 0);
  const std::string equal = MustSubmit({.ranks = 3});
  EXPECT_EQ(Stored(low).state(), v1::RUNNING);
  const std::string high = MustSubmit({.ranks = 2, .priority = 1});
  EXPECT_EQ(Stored(low).state(), v1::PAUSING);
  EXPECT_THAT(Stored(low).state_reason(), HasSubstr("makes room for " + high));
  EXPECT_THAT(StoppedRanks(low), IsEmpty());  // Not before its epoch has ended.
  Train(low, 1);
  EXPECT_THAT(StoppedRanks(low), ElementsAre(1, 2, 3));
  for (const int rank : {1, 2, 3}) Ended(rank, low, absl::CancelledError("stopped"));
  EXPECT_EQ(Stored(low).state(), v1::QUEUED);
  EXPECT_EQ(Stored(low).progress().preempted_by(), "");
  EXPECT_THAT(Stored(low).lora_path(), HasSubstr("epoch-000002"));
  supervisor_->Tick();
  EXPECT_EQ(Stored(high).state(), v1::STARTING);
  EXPECT_EQ(Stored(low).state(), v1::QUEUED);
  EXPECT_EQ(Stored(equal).state(), v1::QUEUED);
}

TEST_F(SupervisorQueueTest, WhatMakesRoomIsQueuedAgainAlsoWhenTheServiceEndsMeanwhile) {
  queue_.preempts = true;
  Restart();
  const std::string low = MustSubmit({.ranks = 3});
  Train(low, 0);
  MustSubmit({.ranks = 3, .priority = 1});
  EXPECT_EQ(Stored(low).state(), v1::PAUSING);
  supervisor_->Drain("the service was stopped");
  EXPECT_EQ(Stored(low).state(), v1::PAUSED);
  Restart();
  EXPECT_EQ(Stored(low).state(), v1::QUEUED);
}

TEST_F(SupervisorQueueTest, WhatMakesRoomStaysPausedIfItsOwnerAsksForThat) {
  queue_.preempts = true;
  Restart();
  const std::string low = MustSubmit({.ranks = 3});
  Train(low, 0);
  MustSubmit({.ranks = 3, .priority = 1});
  ASSERT_TRUE(supervisor_->jobs().Pause(low, false).ok());
  Train(low, 1);
  for (const int rank : {1, 2, 3}) Ended(rank, low, absl::CancelledError("stopped"));
  EXPECT_EQ(Stored(low).state(), v1::PAUSED);
  EXPECT_EQ(Stored(low).state_reason(), "paused by request");
}

TEST_F(SupervisorQueueTest, AJobWithoutTimeForAnotherEpochIsPausedWithACheckpoint) {
  const std::string id = MustSubmit({.ranks = 1, .max_seconds = 5});
  clock_.Advance(2);
  Train(id, 0);  // Its epochs take 2 s.
  EXPECT_EQ(Stored(id).state(), v1::RUNNING);
  clock_.Advance(2);
  Train(id, 1);
  EXPECT_EQ(Stored(id).state(), v1::PAUSING);
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
  Ended(1, id, absl::CancelledError("stopped"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("worked for 4 s of the 5 s"));
  EXPECT_THAT(Stored(id).lora_path(), HasSubstr("epoch-000002"));
  const absl::Status early = supervisor_->jobs().Resume(id, std::nullopt).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(early));
  EXPECT_THAT(std::string(early.message()), HasSubstr("max_seconds"));
  v1::UpdateJobRequest request;
  request.set_id(id);
  request.set_max_seconds(50);
  ASSERT_TRUE(supervisor_->jobs().Update(request).ok());
  ASSERT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
  EXPECT_EQ(Stored(id).progress().run_seconds(), 4);
}

TEST_F(SupervisorQueueTest, AnEpochThatTakesTooLongIsStoppedWhenTheTimeIsOver) {
  const std::string id = MustSubmit({.ranks = 1, .max_seconds = 5});
  Progress(1, id, "sampling");
  clock_.Advance(4.5);
  supervisor_->Tick();
  EXPECT_THAT(StoppedRanks(id), IsEmpty());
  clock_.Advance(1);
  supervisor_->Tick();
  EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
  Ended(1, id, absl::CancelledError("stopped"));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("out of time"));
}

TEST_F(SupervisorQueueTest, AHeldJobStartsOnceItIsResumed) {
  const std::string id = MustSubmit({.ranks = 1, .hold = true});
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("held"));
  EXPECT_THAT(States(id), ElementsAre(v1::PAUSED));
  Restart();
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  ASSERT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resume_count(), 0);
}

TEST_F(SupervisorQueueTest, AnOwnersJobsWaitForItsQuotaAndOthersGoPast) {
  queue_.ranks_per_owner = 2;
  Restart();
  const std::string first = MustSubmit({.ranks = 2, .owner = "alice"});
  const std::string second = MustSubmit({.ranks = 1, .owner = "alice"});
  const std::string other = MustSubmit({.ranks = 1, .owner = "bob"});
  EXPECT_EQ(Stored(first).state(), v1::STARTING);
  EXPECT_THAT(hub_->Reason(second), HasSubstr("2 of the 2 ranks that `quotas.running_ranks`"));
  EXPECT_EQ(Stored(other).state(), v1::STARTING);
  const absl::Status large = TrySubmit({.ranks = 3, .owner = "carol"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(large)) << large;
  EXPECT_THAT(std::string(large.message()), HasSubstr("allows an owner 2 ranks"));
}

TEST_F(SupervisorQueueTest, MoreJobsThanAllowedAreRefusedAndNothingIsStored) {
  limits_ = {.max_jobs = 4, .queued_jobs_of_owner = 2};
  Restart();
  MustSubmit({.ranks = 3, .owner = "alice"});  // Has ranks, so it does not count for the quota.
  MustSubmit({.owner = "alice"});
  const std::string held = MustSubmit({.owner = "alice", .hold = true});
  const absl::Status refused = TrySubmit({.owner = "alice"}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("`quotas.queued_jobs`"));
  EXPECT_TRUE(supervisor_->jobs().Resume(held, std::nullopt).ok());  // It is counted already.
  MustSubmit({.owner = "bob"});
  const absl::Status full = TrySubmit({.owner = "carol"}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("`queue.max_jobs`"));
  EXPECT_EQ(store_->List(1000, 1000)->size(), 4u);
}

TEST_F(SupervisorQueueTest, ATickOverManyJobsThatWaitIsShort) {
  const char* const wanted = std::getenv("IMAGEDDPO_LOAD");  // See tests/soak/run.sh.
  const bool is_full = wanted != nullptr && std::string_view(wanted) == "full";
  const int num_jobs = is_full ? 1000 : 100;
  queue_ = {.fair_share_half_life_s = 3600, .preempts = true};
  Restart();
  MustSubmit({.ranks = 3});
  for (int i = 0; i < num_jobs; ++i) {
    const std::string owner = absl::StrCat("owner ", i % 50);
    ASSERT_TRUE(TrySubmit({.ranks = 1 + i % 3, .owner = owner}).ok());
  }
  std::vector<double> seconds;
  for (int i = 0; i < 200; ++i) {
    clock_.Advance(0.2);
    const auto start = std::chrono::steady_clock::now();
    supervisor_->Tick();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double p99_s = seconds[seconds.size() * 99 / 100];
  std::cout << "{\"queued\": " << num_jobs << ", \"tick_p99_ms\": " << 1000 * p99_s << "}"
            << std::endl;
  if (is_full) {
    EXPECT_LE(p99_s, 0.010);
  }
}

}  // namespace
}  // namespace imageddpo
