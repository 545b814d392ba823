#include <gtest/gtest.h>

#include "common/base/host.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

TEST(HostMemory, IsWhatTheHostHasWhereNothingLimitsIt) {
  EXPECT_GT(HostMemoryBytes(), 64 * kMegabyte);
  const TempDir root;
  const int64_t all = HostMemoryBytes(root.path());
  EXPECT_GE(all, HostMemoryBytes());
  root.Write("proc/self/cgroup", "nonsense\n0::/\n");
  root.Write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(HostMemoryBytes(root.path()), all);
}

TEST(HostMemory, IsTheSmallestLimitOfTheGroupsAroundTheProcess) {
  const TempDir root;
  root.Write("proc/self/cgroup", "0::/a/b\n");
  root.Write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.Write("sys/fs/cgroup/a/memory.max", "33554432\n");
  EXPECT_EQ(HostMemoryBytes(root.path()), 32 * kMegabyte);
  root.Write("sys/fs/cgroup/memory.max", "16777216\n");
  EXPECT_EQ(HostMemoryBytes(root.path()), 16 * kMegabyte);
}

TEST(HostMemory, KnowsVersionOneOfControlGroups) {
  const TempDir root;
  root.Write("proc/self/cgroup", "5:devices:/\n4:cpu,memory:/box\n");
  root.Write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "8388608\n");
  root.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(HostMemoryBytes(root.path()), 8 * kMegabyte);
}

}  // namespace
}  // namespace imageddpo
