#include "common/base/stop_flag.h"

#include <csignal>
#include <stdexcept>

#include "gtest/gtest.h"

namespace imageddpo {
namespace {

TEST(StopFlag, RemembersTheFirstSignal) {
  const StopFlag flag;
  EXPECT_FALSE(flag.Requested());
  EXPECT_EQ(flag.ExitCode(), 0);
  std::raise(SIGTERM);
  EXPECT_TRUE(flag.Requested());
  std::raise(SIGINT);
  EXPECT_EQ(flag.Signal(), SIGTERM);
  EXPECT_EQ(flag.ExitCode(), 143);
}

TEST(StopFlag, StartsAnewAndCanBeSetWithoutASignal) {
  StopFlag flag;
  EXPECT_FALSE(flag.Requested());
  flag.Request();
  EXPECT_TRUE(flag.Requested());
  EXPECT_EQ(flag.Signal(), 0);
  EXPECT_EQ(flag.ExitCode(), 0);
}

TEST(StopFlag, PutsTheFormerHandlersBack) {
  struct sigaction before = {};
  sigaction(SIGINT, nullptr, &before);
  { const StopFlag flag; }
  struct sigaction after = {};
  sigaction(SIGINT, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(StopFlag, ExistsOnlyOnce) {
  const StopFlag flag;
  EXPECT_THROW(StopFlag(), std::logic_error);
}

TEST(StopFlagDeathTest, ASecondSignalOfTheSameKindEndsTheProcess) {
  EXPECT_EXIT(
      {
        const StopFlag flag;
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace imageddpo
