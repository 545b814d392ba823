#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "common/base/host.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

TEST(AvailableProcessors, AreThoseOfTheAffinity) {
  int found = 0;
  int first = 0;
  std::thread([&] {  // Of this thread alone.
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    while (!CPU_ISSET(first, &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    found = AvailableProcessors();
  })
      .join();
  EXPECT_EQ(found, 1);
}

class Quota : public testing::Test {
 protected:
  int Found() const { return AvailableProcessors(root_.path()); }
  /// As on a host without limits.
  const int all_ = AvailableProcessors("/no/such/folder");
  const TempDir root_;
};

TEST_F(Quota, NoneAndNonsenseLimitNothing) {
  root_.Write("proc/self/cgroup", "nonsense\n0::/\n");
  for (const char* text : {"max 100000\n", "", "x y\n", "100000\n", "-1 100000\n", "100000 0\n"}) {
    root_.Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(Found(), all_) << text;
  }
  root_.Write("sys/fs/cgroup/cpu.max", "102400000 100000\n");
  EXPECT_EQ(Found(), all_);
}

TEST_F(Quota, OfAnyGroupAroundTheProcess) {
  root_.Write("proc/self/cgroup", "0::/a/b\n");
  root_.Write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  root_.Write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(Found(), 1);
}

TEST_F(Quota, BelowOneProcessIsOne) {
  root_.Write("proc/self/cgroup", "0::/\n");
  root_.Write("sys/fs/cgroup/cpu.max", "20000 100000\n");
  EXPECT_EQ(Found(), 1);
}

TEST_F(Quota, OfVersionOne) {
  root_.Write("proc/self/cgroup", "5:devices:/\n4:cpu,cpuacct:/box\n");
  root_.Write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "100000\n");
  root_.Write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Found(), 1);
  root_.Write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(Found(), all_);
}

}  // namespace
}  // namespace imageddpo
