// Jobs that pause of themselves: for a reward service that is away, and for too many samples
// without a reward.
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr bool kSpare = true;
constexpr char kAway[] = "reward service 'taste' (127.0.0.1:1) since 2026: refused";

class SupervisorOutageTest : public SupervisorTest {
 protected:
  /// A job of 8 epochs on ranks 1 and 2 that has trained two of them and ends with this error.
  std::string EndedWith(const absl::Status& status) {
    const std::string id = Submit(SpecOf(2, 8)).id();
    Progress(1, id, "sampling");
    Epoch(1, id, 0);
    Checkpoint(1, id, 1);
    Epoch(1, id, 1);
    Checkpoint(1, id, 2, kSpare);
    Ended(2, id, status);
    EXPECT_THAT(StoppedRanks(id), ElementsAre(1));
    Ended(1, id, absl::CancelledError("asked to stop"));
    sent_.clear();
    return id;
  }
  std::string PausedByOutage() {
    return EndedWith(PausesJob(absl::FailedPreconditionError("it is away"), kAway));
  }
  void TickAfter(double seconds) {
    clock_.Advance(seconds);
    supervisor_->Tick();
  }
};

TEST_F(SupervisorOutageTest, ItFreesTheRanksAndGoesOnByItselfWhereItWas) {
  const std::string id = PausedByOutage();
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Stored(id).state_reason(), "it is away");
  EXPECT_EQ(Stored(id).progress().waiting_for(), kAway);
  EXPECT_FALSE(Stored(id).has_end_time());
  EXPECT_EQ(supervisor_->scheduler().num_free(), 3);
  supervisor_->Tick();
  EXPECT_THAT(asked_, IsEmpty());
  TickAfter(5);
  EXPECT_THAT(asked_, ElementsAre(id));
  TickAfter(100);  // There is no answer yet.
  EXPECT_THAT(asked_, SizeIs(1));
  supervisor_->OnRewardsAnswered(id, false);
  TickAfter(9.5);
  EXPECT_THAT(asked_, SizeIs(1));
  TickAfter(0.5);
  EXPECT_THAT(asked_, SizeIs(2));
  EXPECT_THAT(StartedRanks(id), IsEmpty());
  supervisor_->OnRewardsAnswered(id, true);
  EXPECT_EQ(Stored(id).state(), v1::QUEUED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("by itself"));
  EXPECT_EQ(Stored(id).progress().waiting_for(), "");
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
  EXPECT_EQ(table_->Find(id)->restarts_without_epoch, 0);
  supervisor_->OnRewardsAnswered(id, true);  // Once more: changes nothing.
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
}

TEST_F(SupervisorOutageTest, ThePausesBetweenQuestionsGrowToAMinute) {
  const std::string id = PausedByOutage();
  supervisor_->Tick();
  size_t num_asked = 0;
  for (const double pause_s : {5.0, 10.0, 20.0, 40.0, 60.0, 60.0}) {
    TickAfter(pause_s - 0.5);
    EXPECT_THAT(asked_, SizeIs(num_asked)) << pause_s;
    TickAfter(0.5);
    EXPECT_THAT(asked_, SizeIs(++num_asked)) << pause_s;
    supervisor_->OnRewardsAnswered(id, false);
  }
}

TEST_F(SupervisorOutageTest, AJobThatHasNotStartedYetPausesToo) {
  const std::string id = Submit(SpecOf(1)).id();
  Ended(1, id, PausesJob(absl::FailedPreconditionError("it is away"), kAway));
  EXPECT_THAT(States(id), ElementsAre(v1::QUEUED, v1::STARTING, v1::PAUSED));
}

TEST_F(SupervisorOutageTest, AUsersOwnPauseIsNeverUndone) {
  const std::string asked_first = Submit(SpecOf(1)).id();
  EXPECT_TRUE(supervisor_->jobs().Pause(asked_first, false).ok());
  Ended(1, asked_first, PausesJob(absl::FailedPreconditionError("it is away"), kAway));
  EXPECT_EQ(Stored(asked_first).state(), v1::PAUSED);
  EXPECT_EQ(Stored(asked_first).state_reason(), "paused by request");
  EXPECT_EQ(Stored(asked_first).progress().waiting_for(), "");

  const std::string id = PausedByOutage();
  supervisor_->Tick();
  TickAfter(5);
  EXPECT_THAT(asked_, ElementsAre(id));
  EXPECT_EQ(supervisor_->jobs().Pause(id, false)->state(), v1::PAUSED);
  EXPECT_EQ(Stored(id).state_reason(), "paused by request");
  EXPECT_EQ(Stored(id).progress().waiting_for(), "");
  supervisor_->OnRewardsAnswered(id, true);
  TickAfter(100);
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_THAT(asked_, SizeIs(1));
  EXPECT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
}

TEST_F(SupervisorOutageTest, ItsOwnerMayHaveItTriedAtOnceOrCancelIt) {
  const std::string id = PausedByOutage();
  EXPECT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
  EXPECT_EQ(Stored(id).progress().waiting_for(), "");
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  for (const int rank : {1, 2}) {
    Ended(rank, id, PausesJob(absl::FailedPreconditionError("it is away"), kAway));
  }
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(supervisor_->jobs().Cancel(id)->state(), v1::CANCELLED);
  TickAfter(100);
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(SupervisorOutageTest, ANewProcessOfTheServiceGoesOnAsking) {
  const std::string id = PausedByOutage();
  supervisor_->Drain("the service was stopped");
  Restart();
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  supervisor_->Tick();
  TickAfter(5);
  EXPECT_THAT(asked_, ElementsAre(id));
  supervisor_->OnRewardsAnswered(id, true);
  EXPECT_EQ(Stored(id).state(), v1::QUEUED);
}

TEST_F(SupervisorOutageTest, TooManyDroppedSamplesPauseTheJobUntilItsOwnerResumesIt) {
  const std::string id = EndedWith(PausesJob(absl::OutOfRangeError("too many are dropped"), ""));
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_EQ(Stored(id).state_reason(), "too many are dropped");
  supervisor_->Tick();
  TickAfter(1000);
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_THAT(StartedRanks(id), IsEmpty());
  EXPECT_TRUE(supervisor_->jobs().Resume(id, std::nullopt).ok());
  supervisor_->Tick();
  EXPECT_EQ(Stored(id).resumed_from_epoch(), 2);
}

}  // namespace
}  // namespace imageddpo
