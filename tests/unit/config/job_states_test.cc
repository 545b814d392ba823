#include "common/config/job_states.h"

#include <gtest/gtest.h>

namespace imageddpo {
namespace {

TEST(JobStates, KnowEveryStateAndLaterOnes) {
  EXPECT_EQ(StateName(v1::RECOVERING), "RECOVERING");
  EXPECT_EQ(StateName(static_cast<v1::JobState>(99)), "state 99");
  EXPECT_TRUE(IsFinal(v1::FAILED));
  EXPECT_FALSE(IsFinal(v1::CANCELLING));
}

}  // namespace
}  // namespace imageddpo
