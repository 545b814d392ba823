// A death in an MPI without fault tolerance: mpirun soon ends all ranks, and nothing hangs.

#include <gtest/gtest.h>

#include <chrono>

#include "tests/dist/launch.h"

namespace imageddpo {
namespace {

void ExpectThatAllEnd(const std::string& scenario, int ranks) {
  const auto start = std::chrono::steady_clock::now();
  auto reports = RunFaultRanks(scenario, ranks);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  for (auto& [rank, report] : reports) {
    EXPECT_EQ(report.count("end"), 0U) << "rank " << rank << " went on";
  }
}

TEST(MpiWithoutFaultTolerance, AKilledWorkerEndsAllRanks) { ExpectThatAllEnd("worker_killed", 4); }

TEST(MpiWithoutFaultTolerance, AKilledControllerEndsAllRanks) {
  ExpectThatAllEnd("controller_killed", 3);
}

TEST(MpiWithoutFaultTolerance, WorkersOfAStoppedControllerEndWithinTheLease) {
  auto reports = RunFaultRanks("controller_stopped", 3);
  // The first that ends takes the others with it.
  EXPECT_TRUE(reports[1]["exit_code"] == "75" || reports[2]["exit_code"] == "75");
}

}  // namespace
}  // namespace imageddpo
