#include "deploy/imageddpo/text/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace imageddpo {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(FormatDuration, ChoosesTwoUnits) {
  EXPECT_EQ(FormatDuration(0), "0.0s");
  EXPECT_EQ(FormatDuration(0.42), "0.4s");
  EXPECT_EQ(FormatDuration(9.94), "9.9s");
  EXPECT_EQ(FormatDuration(9.96), "10s");
  EXPECT_EQ(FormatDuration(59.4), "59s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(192), "3m12s");
  EXPECT_EQ(FormatDuration(3599.6), "1h00m");
  EXPECT_EQ(FormatDuration(7500), "2h05m");
  EXPECT_EQ(FormatDuration(3600 * 24 * 3 + 3600 * 4), "3d04h");
  for (const double bad : {-1.0, kNan, kInfinity, 1e300}) EXPECT_EQ(FormatDuration(bad), "-");
}

TEST(FormatNumber, IsShort) {
  EXPECT_EQ(FormatNumber(1.53), "1.53");
  EXPECT_EQ(FormatNumber(-0.0012), "-0.0012");
  EXPECT_EQ(FormatNumber(0.000012), "1.2e-05");
  EXPECT_EQ(FormatNumber(12800, 5), "12800");
  EXPECT_EQ(FormatNumber(1.23456789), "1.235");
  EXPECT_EQ(FormatNumber(-0.0), "0");
  EXPECT_EQ(FormatNumber(kNan), "nan");
  EXPECT_EQ(FormatNumber(-kInfinity), "-inf");
}

TEST(FormatTime, IsUtc) {
  google::protobuf::Timestamp time;
  EXPECT_EQ(FormatTime(time), "-");
  time.set_seconds(1769847330);
  EXPECT_EQ(FormatTime(time), "2026-01-31 08:15:30");
  google::protobuf::Timestamp later = time;
  later.set_seconds(time.seconds() + 192);
  EXPECT_EQ(FormatSpan(time, later), "3m12s");
  EXPECT_EQ(FormatSpan(time, {}), "-");
}

TEST(Sparkline, ScalesToItsOwnRange) {
  EXPECT_EQ(Sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline({-5, 5}, 8), "▁█");
  EXPECT_EQ(Sparkline({2, 2, 2}, 8), "▄▄▄");
  EXPECT_EQ(Sparkline({}, 8), "");
  EXPECT_EQ(Sparkline({1, kNan, 2}, 8), "▁ █");
  EXPECT_EQ(Sparkline({kNan, kInfinity}, 8), "  ");
  EXPECT_EQ(Sparkline({-1e308, 1e308}, 8), "▁█");
}

TEST(Sparkline, ShowsTheWholeHistoryInItsWidth) {
  std::vector<double> rising;
  for (int i = 0; i < 1000; ++i) rising.push_back(i);
  EXPECT_EQ(Sparkline(rising, 8), "▁▂▃▄▅▆▇█");
  for (size_t size = 0; size < 40; ++size) {
    EXPECT_LE(DisplayWidth(Sparkline(std::vector<double>(size, 1.0), 12)), 12U);
  }
  EXPECT_EQ(Sparkline({1, 2}, 0), "");
}

TEST(ProgressBar, HasItsWidthWhateverTheFraction) {
  EXPECT_EQ(ProgressBar(0, 4), "    ");
  EXPECT_EQ(ProgressBar(0.5, 4), "██  ");
  EXPECT_EQ(ProgressBar(1, 4), "████");
  EXPECT_EQ(ProgressBar(0.5 + 1 / 32.0, 4), "██▏ ");
  EXPECT_EQ(ProgressBar(-1, 4), "    ");
  EXPECT_EQ(ProgressBar(7, 4), "████");
  EXPECT_EQ(ProgressBar(kNan, 4), "    ");
  for (int i = 0; i <= 1000; ++i) EXPECT_EQ(DisplayWidth(ProgressBar(i / 1000.0, 7)), 7U) << i;
}

TEST(Truncate, CountsCharactersNotBytes) {
  EXPECT_EQ(Truncate("naïve", 5), "naïve");
  EXPECT_EQ(Truncate("naïve", 4), "naï…");
  EXPECT_EQ(Truncate("naïve", 1), "…");
  EXPECT_EQ(Truncate("naïve", 0), "");
  EXPECT_EQ(DisplayWidth("▁▂naïve"), 7U);
}

TEST(OneLine, IsOne) { EXPECT_EQ(OneLine("first\nsecond\x1b[2J\r"), "first; second\\x1B[2J\\x0D"); }

TEST(FormatTable, AlignsColumnsByCharacters) {
  EXPECT_EQ(FormatTable({"ID", "NAME", "EPOCH#", "LAST"},
                        {{"1", "naïve", "5", "x"}, {"22", "b", "123456", ""}}),
            "ID  NAME    EPOCH  LAST\n"
            "1   naïve       5  x\n"
            "22  b      123456\n");
  EXPECT_EQ(FormatTable({"A"}, {}), "A\n");
}

}  // namespace
}  // namespace imageddpo
