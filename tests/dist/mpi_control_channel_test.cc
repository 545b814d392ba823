// The control plane with real ranks: its processor time when idle, and the messages it carries.

#include <gtest/gtest.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "tests/dist/launch.h"

namespace imageddpo {
namespace {

TEST(MpiControlChannel, IdleRanksCostUnderSixPercentOfACoreInAll) {
  auto reports = RunFaultRanks("idle", 3);
  double sum = 0;
  for (auto& [rank, report] : reports) {
    const double percent = Number(report["cpu_percent"]);
    std::printf("rank %d: %.2f%% of a core\n", rank, percent);
    EXPECT_LT(percent, 2.0) << "rank " << rank;
    sum += percent;
  }
  EXPECT_LT(sum, 6.0);
}

TEST(MpiControlChannel, ACheckpointOfThirtyMegabytesKeepsItsPlaceAmongSmallMessages) {
  auto reports = RunFaultRanks("big_message", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[0][absl::StrCat("order_", worker)], "PCE");
    EXPECT_EQ(reports[worker]["same"], "1");
    EXPECT_LT(Number(reports[worker]["round_trip_s"]), 5.0);
    std::printf("rank %d: 2 x 30 MB in %s s\n", worker, reports[worker]["round_trip_s"].c_str());
  }
}

}  // namespace
}  // namespace imageddpo
