#include "trainer/controller/pool/gang_tracker.h"

#include <cerrno>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using Kind = GangTracker::Outcome::Kind;
using ::testing::ElementsAre;

TEST(GangTracker, IsDoneWhenEveryRankIs) {
  GangTracker gang({3, 1});
  EXPECT_TRUE(gang.Has(3));
  EXPECT_FALSE(gang.Has(2));
  EXPECT_THAT(gang.Working(), ElementsAre(1, 3));
  gang.Ended(3, absl::OkStatus());
  EXPECT_FALSE(gang.AllGone());
  EXPECT_FALSE(gang.Broken());
  EXPECT_THAT(gang.Working(), ElementsAre(1));
  gang.Ended(1, absl::OkStatus());
  EXPECT_TRUE(gang.AllGone());
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kDone);
}

TEST(GangTracker, TheRootOfSeveralErrorsCounts) {
  GangTracker gang({1, 2, 3});
  gang.Ended(2, absl::AbortedError("the gang was aborted"));
  gang.Ended(3, absl::InvalidArgumentError("vae/config.json: no"));
  gang.Ended(1, absl::CancelledError("asked to stop"));
  EXPECT_TRUE(gang.AllGone());
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kFailed);
  EXPECT_EQ(gang.GetOutcome().reason, "vae/config.json: no");
}

TEST(GangTracker, ADeathWeighsMoreThanWhatItsPeersNoticed) {
  GangTracker gang({1, 2, 3});
  gang.Ended(1, absl::UnavailableError("rank 2 does not answer"));
  gang.Ended(3, absl::InternalError("MPI_ERR_OTHER"));
  gang.Died(2, "rank 2: process died");
  EXPECT_TRUE(gang.AllGone());
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kRecover);
  EXPECT_EQ(gang.GetOutcome().reason, "rank 2: process died");
}

TEST(GangTracker, AJobsOwnErrorWeighsMoreThanADeath) {
  GangTracker gang({1, 2});
  gang.Died(2, "rank 2: process died");
  gang.Ended(1, absl::OutOfRangeError("the gradient is not finite"));
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kFailed);
  EXPECT_EQ(gang.GetOutcome().reason, "rank 1: the gradient is not finite");
}

TEST(GangTracker, ErrorsOfCommunicationAloneAreWorthAnotherTry) {
  for (const absl::Status& status : {absl::UnavailableError("x"), absl::AbortedError("x"),
                                     absl::DeadlineExceededError("x"), absl::CancelledError("x")}) {
    GangTracker gang({1});
    gang.Ended(1, status);
    EXPECT_TRUE(gang.Broken());
    EXPECT_EQ(gang.GetOutcome().kind, Kind::kRecover) << status;
    EXPECT_EQ(gang.GetOutcome().reason, "rank 1: x");
  }
  GangTracker gang({1});
  gang.Ended(1, absl::InternalError("x"));
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kFailed);
}

TEST(GangTracker, AnErrorThatPausesTheJobDoesSoWhateverItsPeersNotice) {
  GangTracker gang({1, 2, 3});
  gang.Ended(2, absl::AbortedError("the gang was aborted"));
  gang.Ended(1, PausesJob(absl::FailedPreconditionError("it is away"), "reward service 'taste'"));
  gang.Died(3, "rank 3: process died");
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kPause);
  EXPECT_EQ(gang.GetOutcome().reason, "it is away");
  EXPECT_EQ(gang.GetOutcome().waiting_for, "reward service 'taste'");
  GangTracker at_fault({1, 2});
  at_fault.Ended(2, absl::InvalidArgumentError("an image is missing"));
  at_fault.Ended(1, PausesJob(absl::OutOfRangeError("too many are dropped"), ""));
  EXPECT_EQ(at_fault.GetOutcome().kind, Kind::kFailed);
}

TEST(GangTracker, WhatARankReportedBeforeItDiedCounts) {
  GangTracker gang({1, 2});
  gang.Ended(1, absl::OkStatus());
  gang.Died(1, "rank 1: process died");
  gang.Died(7, "not of this gang");
  EXPECT_FALSE(gang.Broken());
  gang.Ended(2, absl::OkStatus());
  gang.Ended(2, absl::InternalError("twice"));
  EXPECT_EQ(gang.GetOutcome().kind, Kind::kDone);
}

TEST(GangTracker, AFaultSaysWhoseItIsWhateverTheCode) {
  const auto outcome_of = [](const absl::Status& status) {
    GangTracker gang({1, 2});
    gang.Ended(1, status);
    gang.Ended(2, absl::InternalError("what its peer saw"));
    return gang.GetOutcome();
  };
  const absl::Status full = ErrnoStatus(ENOSPC, "cannot write 'x'");
  EXPECT_EQ(outcome_of(full).kind, Kind::kRecover);
  EXPECT_THAT(outcome_of(full).reason, ::testing::StartsWith("rank 1: cannot write 'x'"));
  EXPECT_EQ(outcome_of(absl::ResourceExhaustedError("x")).kind, Kind::kFailed);
  const absl::Status away = absl::UnavailableError("the reward is away");
  EXPECT_EQ(outcome_of(WithFault(away, {Whose::kReward, /*passes=*/false})).kind, Kind::kFailed);
  EXPECT_EQ(outcome_of(WithFault(away, {Whose::kReward, /*passes=*/true})).kind, Kind::kRecover);
  EXPECT_EQ(outcome_of(WithFault(absl::InvalidArgumentError("x"), {Whose::kRank, false})).kind,
            Kind::kRecover);
}

}  // namespace
}  // namespace imageddpo
