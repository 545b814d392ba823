#include "trainer/controller/pool/worker_link.h"

#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/comm/local_control_channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class WorkerLinkTest : public testing::Test {
 protected:
  WorkerLinkTest() : plane_({1, 2}) {
    WorkerLink::Options options;
    options.stuck_seconds = 30;
    link_ = std::make_unique<WorkerLink>(
        options, plane_.controller(), clock_,
        [this](int rank, const v1::WorkerMessage& message) {
          const absl::MutexLock lock(&mutex_);
          log_.push_back("message of " + std::to_string(rank) + " " + message.warning().message());
        },
        [this](int rank, const std::string& reason) {
          const absl::MutexLock lock(&mutex_);
          log_.push_back("failure of " + std::to_string(rank) + ": " + reason);
        });
  }

  void SendWarning(int rank, const std::string& text) {
    v1::WorkerMessage message;
    message.mutable_warning()->set_message(text);
    plane_.worker(rank).Send(std::move(message));
  }
  std::vector<std::string> Log(size_t size) {
    const absl::MutexLock lock(&mutex_);
    const auto reached = [this, size] { return log_.size() >= size; };
    mutex_.AwaitWithTimeout(absl::Condition(&reached), absl::Seconds(10));
    return log_;
  }
  /// Leases that reach the worker within `seconds` of the fake clock, moved in steps of half a
  /// second.
  int LeasesWithin(double seconds, bool alive) {
    int leases = 0;
    for (double passed = 0; passed < seconds; passed += 0.5) {
      clock_.Advance(0.5);
      if (alive) link_->Alive();
      absl::SleepFor(absl::Milliseconds(150));  // Longer than the link's own interval.
      while (const auto message = plane_.worker(1).Receive(std::chrono::milliseconds(0))) {
        leases += message->has_lease();
      }
    }
    return leases;
  }

  FakeClock clock_;
  LocalControlPlane plane_;
  absl::Mutex mutex_;
  std::vector<std::string> log_;
  std::unique_ptr<WorkerLink> link_;
};

TEST_F(WorkerLinkTest, PassesOnWhatWorkersSayButHeartbeats) {
  v1::WorkerMessage heartbeat;
  heartbeat.mutable_heartbeat()->set_lease_number(1);
  plane_.worker(1).Send(heartbeat);
  SendWarning(2, "a");
  SendWarning(2, "b");
  EXPECT_THAT(Log(2), ElementsAre("message of 2 a", "message of 2 b"));
}

TEST_F(WorkerLinkTest, TheLastWordsComeBeforeTheFailureAndNothingAfter) {
  SendWarning(1, "last words");
  plane_.FailWorker(1, "process died");
  EXPECT_THAT(Log(2), ElementsAre("message of 1 last words", "failure of 1: process died"));
  EXPECT_THAT(link_->HeartbeatAges(), SizeIs(1));
  SendWarning(2, "x");
  EXPECT_THAT(Log(3), SizeIs(3));
}

TEST_F(WorkerLinkTest, SendsLeasesWhileTheControllerLives) {
  const int alive = LeasesWithin(4, true);
  EXPECT_GE(alive, 3);
  EXPECT_LE(alive, 6);
}

TEST_F(WorkerLinkTest, AStuckControllerLetsItsLeasesRunOut) {
  clock_.Advance(31);
  LeasesWithin(1, false);
  EXPECT_EQ(LeasesWithin(3, false), 0);
  EXPECT_GE(LeasesWithin(2, true), 1);
}

TEST_F(WorkerLinkTest, KnowsHowLongEachWorkerWasSilent) {
  clock_.Advance(5);
  SendWarning(2, "x");
  Log(1);
  const std::map<int, double> ages = link_->HeartbeatAges();
  EXPECT_EQ(ages.at(1), 5);
  EXPECT_EQ(ages.at(2), 0);
}

}  // namespace
}  // namespace imageddpo
