#include "common/base/clock.h"

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace imageddpo {
namespace {

TEST(FormatRfc3339, WritesUtcWithMilliseconds) {
  EXPECT_EQ(FormatRfc3339(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(FormatRfc3339(951'782'400.25), "2000-02-29T00:00:00.250Z");
  EXPECT_EQ(FormatRfc3339(-0.5), "1969-12-31T23:59:59.500Z");
}

TEST(SystemClock, SleepsAtLeastAsLongAsAsked) {
  SystemClock clock;
  const double before = clock.NowSeconds();
  clock.SleepSeconds(0.02);
  EXPECT_GE(clock.NowSeconds() - before, 0.02);
  clock.SleepSeconds(-1.0);
  EXPECT_EQ(clock.WallTime().size(), std::string("2026-01-31T08:15:30.250Z").size());
}

TEST(FakeClock, StandsStillUntilMoved) {
  FakeClock clock(0);
  EXPECT_EQ(clock.NowSeconds(), 0);
  clock.SleepSeconds(90.5);
  clock.Advance(-5);
  EXPECT_EQ(clock.NowSeconds(), 90.5);
  EXPECT_EQ(clock.WallTime(), "1970-01-01T00:01:30.500Z");
}

}  // namespace
}  // namespace imageddpo
