// What becomes of a job in which a guard has seen something.
#include "trainer/guards/firing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "common/base/status.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

TEST(Firing, ItsPolicyDecidesAndRollbacksEnd) {
  const Firing firing{.guard = Guard::kApproxKl, .epoch = 4, .good_epochs = 4, .what = "seen"};
  GuardsSettings settings;
  settings.approx_kl.policy = GuardPolicy::kWarn;
  EXPECT_TRUE(ActionStatus(firing, settings).ok());
  settings.approx_kl.policy = GuardPolicy::kRollback;
  EXPECT_EQ(RollsBackTo(ActionStatus(firing, settings)), 4);
  EXPECT_EQ(ReportOf(firing, settings, "job-1").guard().action(), "rollback");
  settings.rollbacks = settings.max_rollbacks = 3;
  EXPECT_EQ(RollsBackTo(ActionStatus(firing, settings)), std::nullopt);
  EXPECT_EQ(PausesJobFor(ActionStatus(firing, settings)), "");
  EXPECT_THAT(MessageOf(firing, settings), HasSubstr("guard approx_kl, epoch 5: seen; the job is "
                                                     "paused, since it was taken back 3 times"));
  settings.approx_kl.policy = GuardPolicy::kFail;
  EXPECT_EQ(PausesJobFor(ActionStatus(firing, settings)), std::nullopt);
  EXPECT_TRUE(absl::IsOutOfRange(ActionStatus(firing, settings)));
}

}  // namespace
}  // namespace imageddpo
