#include "trainer/controller/jobs/job_state.h"

#include "common/config/job_states.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<v1::JobState> AllStates() {
  std::vector<v1::JobState> states;
  for (int number = v1::JobState_MIN + 1; number <= v1::JobState_MAX; ++number) {
    states.push_back(static_cast<v1::JobState>(number));
  }
  return states;
}

TEST(JobState, AFinalStateIsLeftByAResumeAlone) {
  for (const v1::JobState state : AllStates()) {
    if (IsFinal(state) && state != v1::SUCCEEDED) {
      EXPECT_THAT(NextStates(state), UnorderedElementsAre(v1::QUEUED)) << StateName(state);
    } else {
      EXPECT_EQ(NextStates(state).empty(), state == v1::SUCCEEDED) << StateName(state);
    }
  }
  EXPECT_THAT(std::string(CheckTransition(v1::SUCCEEDED, v1::RUNNING).message()),
              HasSubstr("already ended: SUCCEEDED"));
}

TEST(JobState, EveryJobCanBeCancelledAndCanReachAnEnd) {
  for (const v1::JobState state : AllStates()) {
    if (IsFinal(state)) continue;
    // With ranks through CANCELLING, without at once.
    const v1::JobState cancelled =
        state == v1::CANCELLING || !HoldsRanks(state) ? v1::CANCELLED : v1::CANCELLING;
    EXPECT_THAT(NextStates(state), Contains(cancelled)) << StateName(state);
  }
}

TEST(JobState, EveryJobThatHasNotEndedCanBePausedAndThenResumed) {
  for (const v1::JobState state : AllStates()) {
    if (IsFinal(state) || state == v1::CANCELLING || state == v1::PAUSED) continue;
    // With ranks through PAUSING, without at once.
    const v1::JobState paused =
        state == v1::PAUSING || !HoldsRanks(state) ? v1::PAUSED : v1::PAUSING;
    EXPECT_THAT(NextStates(state), Contains(paused)) << StateName(state);
  }
  // Also of itself.
  EXPECT_TRUE(CheckTransition(v1::STARTING, v1::PAUSED).ok());
  EXPECT_TRUE(CheckTransition(v1::RUNNING, v1::PAUSED).ok());
  EXPECT_THAT(NextStates(v1::PAUSED), UnorderedElementsAre(v1::QUEUED, v1::CANCELLED));
}

TEST(JobState, WhatRunsCanRecoverAndFail) {
  for (const v1::JobState state : AllStates()) {
    if (!HoldsRanks(state) || state == v1::CANCELLING) continue;
    // A job that loses a rank while it is being paused is paused.
    const v1::JobState after_a_loss = state == v1::PAUSING ? v1::PAUSED : v1::RECOVERING;
    EXPECT_TRUE(CheckTransition(state, after_a_loss).ok()) << StateName(state);
    EXPECT_TRUE(CheckTransition(state, v1::FAILED).ok()) << StateName(state);
  }
  EXPECT_THAT(NextStates(v1::CANCELLING), UnorderedElementsAre(v1::CANCELLED));
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckTransition(v1::QUEUED, v1::RUNNING)));
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckTransition(v1::RECOVERING, v1::SUCCEEDED)));
}

}  // namespace
}  // namespace imageddpo
