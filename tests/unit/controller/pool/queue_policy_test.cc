#include "trainer/controller/pool/queue_policy.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/controller/pool/fair_share.h"

namespace imageddpo {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> InOrder(const std::vector<QueuedJob>& jobs,
                                 std::function<double(const std::string&)> share) {
  QueueOrder order(jobs, std::move(share));
  std::vector<std::string> ids;
  while (const QueuedJob* job = order.Next()) ids.push_back(job->id);
  return ids;
}

TEST(QueueOrder, IsRecoveringThenPriorityThenShareThenNumber) {
  const std::vector<QueuedJob> jobs = {
      {.id = "greedy", .owner = "a", .number = 1},
      {.id = "modest", .owner = "b", .number = 2},
      {.id = "modest too", .owner = "b", .number = 3},
      {.id = "urgent", .owner = "a", .priority = 5, .number = 4},
      {.id = "was there", .owner = "a", .recovers = true, .priority = -9, .number = 5},
      {.id = "new", .owner = "c", .number = 6},
  };
  const auto share = [](const std::string& owner) { return owner == "a" ? 100.0 : 1.0; };
  EXPECT_THAT(InOrder(jobs, share),
              ElementsAre("was there", "urgent", "modest", "modest too", "new", "greedy"));
  EXPECT_THAT(InOrder(jobs, [](const std::string&) { return 0.0; }),
              ElementsAre("was there", "urgent", "greedy", "modest", "modest too", "new"));
}

TEST(QueueOrder, TheOneThatRanksAreKeptForIsNotPutOffByShares) {
  std::vector<QueuedJob> jobs = {
      {.id = "kept for", .owner = "a", .number = 1, .reserved = true},
      {.id = "new owner", .owner = "b", .number = 2},
      {.id = "urgent", .owner = "b", .priority = 1, .number = 3},
  };
  const auto share = [](const std::string& owner) { return owner == "a" ? 100.0 : 1.0; };
  EXPECT_THAT(InOrder(jobs, share), ElementsAre("urgent", "kept for", "new owner"));
  // An older job of the same owner, that was held for example, is not put off by it either.
  jobs.push_back({.id = "older", .owner = "a", .number = 0});
  EXPECT_THAT(InOrder(jobs, share), ElementsAre("urgent", "older", "kept for", "new owner"));
}

TEST(QueueOrder, AsksForSharesAnewAfterEachJob) {
  std::vector<QueuedJob> jobs;
  for (int i = 0; i < 6; ++i) {
    jobs.push_back({.id = std::to_string(i), .owner = i < 4 ? "a" : "b", .number = i});
  }
  std::map<std::string, double> taken;
  QueueOrder order(jobs, [&](const std::string& owner) { return taken[owner]; });
  std::vector<std::string> ids;
  while (const QueuedJob* job = order.Next()) {
    ids.push_back(job->id);
    taken[job->owner] += 1;
  }
  EXPECT_THAT(ids, ElementsAre("0", "4", "1", "5", "2", "3"));
}

TEST(Reserve, TakesTheFirstMomentWithEnoughRanks) {
  const std::vector<GangAtWork> at_work = {
      {.job_id = "late", .number = 1, .ranks = 4, .seconds_left = 100},
      {.job_id = "soon", .number = 2, .ranks = 2, .seconds_left = 10},
      {.job_id = "too", .number = 3, .ranks = 1, .seconds_left = 10},
  };
  Reservation reservation = Reserve(3, 1, at_work);
  EXPECT_EQ(reservation.in_s, 10);
  EXPECT_EQ(reservation.spare, 1);
  EXPECT_TRUE(reservation.Allows(1, kUnknownSeconds));
  EXPECT_TRUE(reservation.Allows(2, 10));
  EXPECT_FALSE(reservation.Allows(2, 10.5));
  reservation.Started(1, kUnknownSeconds);
  EXPECT_FALSE(reservation.Allows(1, kUnknownSeconds));
  EXPECT_TRUE(reservation.Allows(1, 9));
}

TEST(Reserve, NobodyReliesOnATimeThatIsNotKnown) {
  const Reservation reservation = Reserve(3, 2, {{.job_id = "a", .ranks = 2}});
  EXPECT_EQ(reservation.in_s, kUnknownSeconds);
  EXPECT_EQ(reservation.spare, 1);  // Whenever it ends, 4 ranks are free.
  EXPECT_TRUE(reservation.Allows(1, kUnknownSeconds));
  EXPECT_FALSE(reservation.Allows(2, 1));
}

TEST(ChoosePreempted, TakesTheLowestAndNewestAndNoMoreThanNeeded) {
  const std::vector<GangAtWork> at_work = {
      {.job_id = "old", .priority = 0, .number = 1, .ranks = 2},
      {.job_id = "new", .priority = 0, .number = 2, .ranks = 2},
      {.job_id = "lowest", .priority = -5, .number = 3, .ranks = 1},
      {.job_id = "equal", .priority = 3, .number = 4, .ranks = 8},
  };
  EXPECT_THAT(ChoosePreempted(1, 3, 0, at_work), ElementsAre("lowest"));
  EXPECT_THAT(ChoosePreempted(2, 3, 0, at_work), ElementsAre("new"));  // "lowest" alone is too few.
  EXPECT_THAT(ChoosePreempted(3, 3, 0, at_work), ElementsAre("lowest", "new"));
  EXPECT_THAT(ChoosePreempted(6, 3, 1, at_work), ElementsAre("lowest", "new", "old"));
  EXPECT_THAT(ChoosePreempted(7, 3, 1, at_work), IsEmpty());  // Not enough, so nobody is paused.
  EXPECT_THAT(ChoosePreempted(1, -5, 0, at_work), IsEmpty());
}

TEST(ChoosePreempted, CountsRanksThatComeBackAnyway) {
  const std::vector<GangAtWork> at_work = {
      {.job_id = "leaves", .priority = 0, .number = 1, .ranks = 2, .leaves = true},
      {.job_id = "works", .priority = 0, .number = 2, .ranks = 2},
  };
  EXPECT_THAT(ChoosePreempted(2, 1, 0, at_work), IsEmpty());
  EXPECT_THAT(ChoosePreempted(4, 1, 0, at_work), ElementsAre("works"));
}

TEST(FairShare, CountsRankSecondsAndHalvesThem) {
  FairShare share(100);
  share.RanksChanged("a", 2, 1000);
  EXPECT_THAT(share.UsageOf("a", 1001), DoubleNear(2, 0.01));
  share.RanksChanged("a", -2, 1001);
  const double usage = share.UsageOf("a", 1001);
  EXPECT_THAT(share.UsageOf("a", 1101), DoubleNear(usage / 2, 1e-9));
  EXPECT_EQ(share.UsageOf("a", 900), usage);  // The clock was set back.
  EXPECT_EQ(share.UsageOf("b", 1101), 0);
  // For ever at work: as many rank-seconds as one half-life divided by ln 2, for each rank.
  share.RanksChanged("b", 3, 0);
  EXPECT_THAT(share.UsageOf("b", 1e6), DoubleNear(3 * 100 / 0.693147, 0.1));
}

TEST(FairShare, GoesOnFromWhatWasStored) {
  FairShare share(100);
  share.RanksChanged("a", 1, 0);
  share.RanksChanged("a", -1, 50);
  share.RanksChanged("gone", 1, 0);
  share.RanksChanged("gone", -1, 0);
  const std::vector<FairShare::Usage> stored = share.Settle(60);
  ASSERT_EQ(stored.size(), 1u);  // Nobody who has taken nothing.
  FairShare later(100);
  later.Load(stored[0]);
  EXPECT_THAT(later.UsageOf("a", 200), DoubleNear(share.UsageOf("a", 200), 1e-9));
  EXPECT_EQ(FairShare(0).UsageOf("a", 1), 0);
}

/// A pool and its queue under random jobs whose times are known exactly, second by second.
class Simulation {
 public:
  struct Job {
    QueuedJob place;
    int ranks = 0;
    int submitted_s = 0;
    int started_s = -1;
    int ended_s = -1;
  };

  Simulation(uint32_t seed, int num_priorities)
      : random_(seed), holds_promises_(num_priorities == 1) {
    num_ranks_ = Pick(2, 8);
    int submitted_s = 0;
    for (int number = 1; number <= 40; ++number) {
      Job job;
      job.place = {.id = "job-" + std::to_string(number),
                   .owner = std::string(1, static_cast<char>('a' + Pick(0, 2))),
                   .priority = Pick(0, num_priorities - 1),
                   .number = number,
                   .seconds = static_cast<double>(Pick(1, 60))};
      job.ranks = Pick(1, num_ranks_);
      submitted_s += Pick(0, 15);
      job.submitted_s = submitted_s;
      jobs_.push_back(job);
    }
  }

  void Run() {
    for (now_s_ = 0; now_s_ < 20'000 && !AllEnded(); ++now_s_) Step();
    EXPECT_TRUE(AllEnded()) << "a job starves";
  }

  std::vector<int> Starts() const {
    std::vector<int> starts;
    for (const Job& job : jobs_) starts.push_back(job.started_s);
    return starts;
  }

 private:
  int Pick(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint32_t>(high - low + 1));
  }
  bool AllEnded() const {
    return std::all_of(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.ended_s >= 0; });
  }
  bool Works(const Job& job) const { return job.started_s >= 0 && job.ended_s < 0; }
  int Free() const {
    int free = num_ranks_;
    for (const Job& job : jobs_) free -= Works(job) ? job.ranks : 0;
    return free;
  }
  std::vector<GangAtWork> AtWork() const {
    std::vector<GangAtWork> at_work;
    for (const Job& job : jobs_) {
      if (!Works(job)) continue;
      at_work.push_back({.job_id = job.place.id,
                         .priority = job.place.priority,
                         .number = job.place.number,
                         .ranks = job.ranks,
                         .seconds_left = job.started_s + job.place.seconds - now_s_});
    }
    return at_work;
  }

  void Step() {
    for (Job& job : jobs_) {
      if (!Works(job) || now_s_ < job.started_s + job.place.seconds) continue;
      job.ended_s = now_s_;
      share_.RanksChanged(job.place.owner, -job.ranks, now_s_);
    }
    std::vector<QueuedJob> waiting;
    for (const Job& job : jobs_) {
      if (job.submitted_s > now_s_ || job.started_s >= 0) continue;
      waiting.push_back(job.place);
      waiting.back().reserved = job.place.number == promised_to_;
    }
    QueueOrder order(waiting, [&](const std::string& owner) {
      return share_.UsageOf(owner, now_s_) + 60 * share_.RanksOf(owner);
    });
    std::optional<Reservation> reservation;
    while (const QueuedJob* place = order.Next()) {
      Job& job = jobs_[static_cast<size_t>(place->number) - 1];
      if (reservation.has_value() && !reservation->Allows(job.ranks, place->seconds)) continue;
      if (job.ranks > Free()) {
        if (reservation.has_value()) continue;
        reservation = Reserve(job.ranks, Free(), AtWork());
        // Whatever started meanwhile, what was promised to this job holds. Only a job of higher
        // priority may put it off.
        const double start_s = now_s_ + reservation->in_s;
        if (holds_promises_ && promised_to_ == place->number) {
          EXPECT_LE(start_s, promised_s_) << place->id << " is delayed";
        }
        promised_s_ = start_s;
        promised_to_ = place->number;
        continue;
      }
      if (reservation.has_value()) reservation->Started(job.ranks, place->seconds);
      job.started_s = now_s_;
      share_.RanksChanged(job.place.owner, job.ranks, now_s_);
    }
    if (!reservation.has_value()) promised_to_ = 0;
    EXPECT_GE(Free(), 0) << "a rank works for two jobs";
  }

  std::mt19937 random_;
  int num_ranks_ = 0;
  int now_s_ = 0;
  std::vector<Job> jobs_;
  FairShare share_{500};
  const bool holds_promises_;
  int64_t promised_to_ = 0;  // The job for which ranks are kept, by number; 0: none.
  double promised_s_ = 0;    // When it can start at the latest.
};

TEST(QueuePolicy, HoldsItsPromisesInRandomScenarios) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const int num_priorities = 1 + static_cast<int>(seed % 2);
    Simulation first(seed, num_priorities), second(seed, num_priorities);
    first.Run();
    second.Run();
    EXPECT_EQ(first.Starts(), second.Starts());
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace imageddpo
