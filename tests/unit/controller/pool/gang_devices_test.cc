#include "trainer/controller/pool/gang_devices.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Scheduler::Worker On(const std::string& host, const std::string& device, const std::string& id = "",
                     const std::string& name = "") {
  Scheduler::Worker worker;
  worker.hostname = host;
  worker.device = device;
  worker.device_id = id;
  worker.device_name = name;
  return worker;
}

TEST(GangDevices, AreSharedWhereTwoRanksHaveOneGpu) {
  // Each rank of the first host sees one GPU alone, and calls it number 0.
  const std::map<int, Scheduler::Worker> workers = {{1, On("a", "cuda:0", "GPU-1", "H100")},
                                                    {2, On("a", "cuda:0", "GPU-2", "H100")},
                                                    {3, On("b", "cuda:0", "GPU-1", "H100")},
                                                    {4, On("b", "cuda:1", "GPU-4", "A100")}};
  EXPECT_FALSE(DevicesOf(workers, {1, 2, 4}).are_shared);
  EXPECT_TRUE(DevicesOf(workers, {1, 2, 3}).are_shared) << "of two containers of one machine";
  EXPECT_THAT(DevicesOf(workers, {1, 2}).models, ElementsAre("H100"));
  EXPECT_THAT(DevicesOf(workers, {1, 4}).models, ElementsAre("A100", "H100"));
}

TEST(GangDevices, WithoutAnIdAreHostAndNumber) {
  const std::map<int, Scheduler::Worker> workers = {{1, On("a", "cuda:0")},
                                                    {2, On("a", "cuda:0")},
                                                    {3, On("a", "cuda:1")},
                                                    {4, On("b", "cuda:0")}};
  EXPECT_TRUE(DevicesOf(workers, {1, 2}).are_shared);
  EXPECT_FALSE(DevicesOf(workers, {1, 3, 4}).are_shared);
}

TEST(GangDevices, AreSharedOnlyWhereTheJobAllowsIt) {
  const std::map<int, Scheduler::Worker> workers = {{1, On("a", "cuda:0", "GPU-1")},
                                                    {2, On("a", "cuda:1", "GPU-2")},
                                                    {3, On("a", "cuda:0", "GPU-1")},
                                                    {4, On("a", "cuda:0", "GPU-1")}};
  const GangDevices shared = DevicesOf(workers, {1, 2, 3, 4});
  const absl::Status refused = CheckSharing(shared, /*allowed=*/false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("ranks 1 and 3 would share one GPU (GPU-1, which rank 3 on a calls "
                              "cuda:0)"),
                    HasSubstr("`device.allow_shared_gpus: true`")));
  EXPECT_TRUE(CheckSharing(shared, /*allowed=*/true).ok());
  EXPECT_TRUE(CheckSharing(DevicesOf(workers, {1, 2}), /*allowed=*/false).ok());
}

TEST(GangDevices, OnCpusAreNeverShared) {
  const std::map<int, Scheduler::Worker> workers = {{1, On("a", "cpu")}, {2, On("a", "cpu")}};
  const GangDevices devices = DevicesOf(workers, {1, 2, 3});
  EXPECT_FALSE(devices.are_shared);
  EXPECT_TRUE(CheckSharing(devices, /*allowed=*/false).ok());
  EXPECT_THAT(devices.models, IsEmpty());
}

}  // namespace
}  // namespace imageddpo
