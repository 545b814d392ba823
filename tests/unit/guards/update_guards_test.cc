// The guards on single updates.
#include "trainer/guards/update_guards.h"

#include <absl/status/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/status.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// As state.json holds it.
nlohmann::json StateOf(const UpdateGuards& guards) {
  nlohmann::ordered_json state;
  guards.AddTo(&state);
  return nlohmann::json::parse(state.dump());
}

TEST(UpdateGuards, ASpikeIsTakenWithAWarningAndNotTakenOtherwise) {
  for (const GuardPolicy policy : {GuardPolicy::kWarn, GuardPolicy::kRollback}) {
    GuardsSettings settings;
    settings.gradient_spike = {.policy = policy, .threshold = 10};
    UpdateGuards guards(settings);
    for (int64_t update = 0; update < 20; ++update) {
      EXPECT_TRUE(guards.Accepts(1 + 0.1 * static_cast<double>(update % 3)));
      EXPECT_TRUE(guards.EndUpdate(update, update).ok());
    }
    EXPECT_THAT(guards.TakeFirings(), IsEmpty());
    EXPECT_EQ(guards.Accepts(50), policy == GuardPolicy::kWarn);
    const absl::Status status = guards.EndUpdate(20, 20);
    EXPECT_EQ(status.ok(), policy == GuardPolicy::kWarn);
    if (!status.ok()) {
      EXPECT_EQ(RollsBackTo(status), 20);
    }
    const std::vector<Firing> firings = guards.TakeFirings();
    ASSERT_EQ(firings.size(), 1U);
    EXPECT_EQ(firings[0].guard, Guard::kGradientSpike);
    EXPECT_EQ(firings[0].epoch, 20);
    EXPECT_EQ(firings[0].good_epochs, 20);
  }
}

TEST(UpdateGuards, SkipAtMostSixteenInARow) {
  GuardsSettings settings;
  settings.non_finite = GuardPolicy::kSkip;
  UpdateGuards guards(settings);
  for (int64_t i = 0; i < UpdateGuards::kMostInARow; ++i) EXPECT_TRUE(guards.NotFinite(0, i).ok());
  EXPECT_EQ(guards.TakeFirings().size(), 1U) << "of an epoch the first is told";
  UpdateGuards resumed(settings);
  resumed.Restore(StateOf(guards));
  EXPECT_EQ(resumed.skipped(), UpdateGuards::kMostInARow);
  const absl::Status status = resumed.NotFinite(1, 16);
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the job fails"));
  EXPECT_TRUE(guards.Accepts(1));
  EXPECT_TRUE(guards.NotFinite(2, 18).ok()) << "a good one in between";
}

/// The updates that train.max_grad_zscore leaves out are seen by both guards, and are good ones for
/// the count of those that are not finite in a row.
TEST(UpdateGuards, LeaveOutSpikesAndGoOn) {
  GuardsSettings settings;
  settings.non_finite = GuardPolicy::kSkip;
  settings.gradient_spike = {.policy = GuardPolicy::kFail, .threshold = 8};
  UpdateGuards guards(settings, /*max_grad_zscore=*/4);
  EXPECT_TRUE(guards.skips());
  for (int64_t update = 0; update < GradientGuard::kFirstUpdates; ++update) {
    EXPECT_TRUE(guards.Accepts(1 + 0.1 * static_cast<double>(update % 3)));
    EXPECT_TRUE(guards.EndUpdate(0, update).ok());
  }
  for (int64_t i = 0; i < UpdateGuards::kMostInARow; ++i) EXPECT_TRUE(guards.NotFinite(1, i).ok());
  EXPECT_FALSE(guards.Accepts(50));
  EXPECT_TRUE(guards.EndUpdate(1, 17).ok()) << "gradient_spike is not asked";
  EXPECT_EQ(guards.skipped(), UpdateGuards::kMostInARow + 1);
  EXPECT_TRUE(guards.NotFinite(1, 18).ok()) << "a finite one in between, although it was left out";
  EXPECT_FALSE(UpdateGuards({}, 0).skips());
}

/// Earlier versions wrote the two parts of the state independently of each other.
TEST(UpdateGuards, ReadWhatEarlierVersionsHaveWritten) {
  const auto of_outliers = nlohmann::json::parse(R"({"gradient_guard": {
      "count": 20, "mean": 1.0, "squares": 0.2, "skipped_in_a_row": 2, "skipped_updates": 3}})");
  UpdateGuards guards({}, 4);
  guards.Restore(of_outliers);
  EXPECT_EQ(guards.skipped(), 3);
  EXPECT_FALSE(guards.Accepts(50));
  EXPECT_EQ(StateOf(guards).at("gradient_guard").at("skipped_in_a_row"), 3);
  UpdateGuards without({}, 0);
  without.Restore(of_outliers);
  EXPECT_EQ(without.skipped(), 0) << "the job has been branched without it";
  EXPECT_FALSE(StateOf(without).contains("gradient_guard"));

  const std::string before = StateOf(guards).dump();
  nlohmann::json bad = StateOf(guards);
  bad["update_guards"].erase("skipped");
  bad["gradient_guard"]["skipped_updates"] = 9;
  EXPECT_THROW(guards.Restore(bad), nlohmann::json::exception);
  EXPECT_EQ(StateOf(guards).dump(), before) << "nothing of it was taken";
  guards.Restore(nlohmann::json::object());
  EXPECT_EQ(StateOf(guards).dump(), before) << "of a version without guards";
}

}  // namespace
}  // namespace imageddpo
