// nccl_check's logic, over a stand-in for NCCL.

#include "tests/gpu_check/nccl/nccl_check.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/comm/nccl/nccl_communicator.h"
#include "tests/gpu_check/nccl/library_check.h"
#include "tests/testing/conformance/conformance.h"
#include "tests/testing/fake_nccl.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

CheckedDevices FakeDevices(FakeNccl& nccl, int count) {
  return {.count = count,
          .nccl_version = "fake",
          .communicator =
              [&nccl](std::shared_ptr<Mailbox> mailbox, int rank) {
                return std::make_unique<NcclCommunicator>(std::move(mailbox), at::kCPU,
                                                          nccl.Api(rank), nccl.Stream(rank));
              },
          .library_calls =
              [&nccl](int device) {
                return CheckLibraryCalls(nccl.Api(device), *nccl.Stream(device), at::kCPU);
              }};
}

TEST(NcclCheck, ChoosesRanks) {
  FakeNccl nccl(4);
  EXPECT_EQ(ChooseRanks(FakeDevices(nccl, 0), 0).ranks, 0);
  EXPECT_NE(ChooseRanks(FakeDevices(nccl, 0), 0).note.find("no GPU"), std::string::npos);
  EXPECT_EQ(ChooseRanks(FakeDevices(nccl, 4), 0).ranks, 4);
  EXPECT_EQ(ChooseRanks(FakeDevices(nccl, 4), 3).ranks, 3);
  EXPECT_NE(ChooseRanks(FakeDevices(nccl, 1), 0).note.find("one rank"), std::string::npos);
  EXPECT_EQ(ChooseRanks(FakeDevices(nccl, 1), 2).ranks, 0);
  EXPECT_NE(ChooseRanks(FakeDevices(nccl, 1), 2).note.find("2.30"), std::string::npos);
  CheckedDevices shared = FakeDevices(nccl, 1);
  shared.several_ranks_each = true;
  EXPECT_EQ(ChooseRanks(shared, 2).ranks, 2);
}

TEST(NcclCheck, CallsTheLibraryOnEachDevice) {
  FakeNccl nccl(2);
  nccl.StayInProgress(3);
  const auto results = CheckLibrary(FakeDevices(nccl, 2));
  EXPECT_EQ(results.size(), 2U);
  EXPECT_EQ(ExitCodeOf(results), kCheckPassed) << CaseResultsToJson(results);
  EXPECT_EQ(nccl.counts().comms_made, 2);
  EXPECT_EQ(nccl.counts().comms_alive, 0);
  nccl.SetState(1, NcclResult::kSystemError);
  const auto wrong = CheckLibrary(FakeDevices(nccl, 2));
  EXPECT_TRUE(wrong[0].wrong.empty());
  EXPECT_FALSE(wrong[1].wrong.empty());
}

TEST(NcclCheck, PassesOnThreads) {
  FakeNccl nccl(2);
  const CheckedDevices devices = FakeDevices(nccl, 2);
  const auto results = CheckOnThreads(devices, 2);
  EXPECT_EQ(results.size(), 2 * ConformanceCases().size());
  EXPECT_EQ(ExitCodeOf(results), kCheckPassed) << CaseResultsToJson(results);
  const auto summary =
      nlohmann::json::parse(CheckSummary(devices, {.ranks = 2}, results, kCheckPassed));
  EXPECT_EQ(summary["exit_code"], 0);
  EXPECT_EQ(summary["failed"], 0);
  EXPECT_EQ(summary["passed"], 2 * ConformanceCases().size());
}

TEST(NcclCheck, PassesWithRanksThatShareAFolder) {
  FakeNccl nccl(2);
  const CheckedDevices devices = FakeDevices(nccl, 2);
  const TempDir folder;
  std::vector<std::vector<CaseResult>> by_rank(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      by_rank[static_cast<std::size_t>(rank)] = CheckAsProcess(devices, folder.path(), rank, 2);
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  std::vector<CaseResult> read;
  EXPECT_TRUE(CaseResultsFromJson(CaseResultsToJson(Merge(by_rank)), &read));
  EXPECT_EQ(read.size(), 2 * ConformanceCases().size());
  EXPECT_EQ(ExitCodeOf(read), kCheckPassed) << CaseResultsToJson(read);
}

TEST(NcclCheck, ARankOutlivesAnother) {
  FakeNccl nccl(2);
  const CheckedDevices devices = FakeDevices(nccl, 2);
  const TempDir folder;
  CaseResult survivor, early;
  std::thread first(
      [&] { survivor = OutliveAPeer(devices, folder.path(), 0, std::chrono::seconds(6)); });
  std::thread second([&] {  // Its waits end before the other one's, and it leaves.
    early = OutliveAPeer(devices, folder.path(), 1, std::chrono::seconds(3));
  });
  second.join();
  EXPECT_TRUE(std::filesystem::exists(AtWorkFile(folder.path(), 1)));
  EXPECT_EQ(early.wrong.size(), 1U) << "the other rank was alive";
  first.join();
  EXPECT_TRUE(survivor.wrong.empty()) << survivor.wrong.front();
}

TEST(NcclCheck, AFailureIsShown) {
  FakeNccl nccl(1);
  CheckedDevices devices = FakeDevices(nccl, 1);
  devices.communicator = [](std::shared_ptr<Mailbox>, int) -> std::unique_ptr<Communicator> {
    throw CommError(CommError::Kind::kTransport, "no such device");
  };
  const auto results = CheckOnThreads(devices, 1);
  EXPECT_EQ(ExitCodeOf(results), kCheckFailed);
  EXPECT_NE(CaseResultsToJson(results).find("no such device"), std::string::npos);
  EXPECT_EQ(ExitCodeOf({}), kCheckFailed);
  std::vector<CaseResult> read;
  EXPECT_FALSE(CaseResultsFromJson("", &read));
}

}  // namespace
}  // namespace imageddpo
