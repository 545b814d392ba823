// Starts real ranks under mpirun, lets one die or stop, and checks what the others saw.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

using Reports = std::map<int, std::map<std::string, std::string>>;  // By rank, then key.

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

double Number(const std::string& text) {
  double value = -1;
  EXPECT_TRUE(absl::SimpleAtod(text, &value)) << '"' << text << '"';
  return value;
}

class MpiFaults : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "mpi_faults.XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    ASSERT_NE(Environment("IMAGEDDPO_SOURCE_DIR"), "") << "run by ctest";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Reports Run(const std::string& scenario, int ranks) {
    const std::string script = Environment("IMAGEDDPO_SOURCE_DIR") + "/tests/dist/mpirun.sh";
    const std::string count = absl::StrCat(ranks);
    const pid_t child = fork();
    if (child == 0) {
      execl(script.c_str(), script.c_str(), "-n", count.c_str(), FAULT_RANKS_PROGRAM,
            scenario.c_str(), folder_.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    Reports reports;
    for (int rank = 0; rank < ranks; ++rank) {
      std::ifstream file(absl::StrCat(folder_, "/rank-", rank));
      std::string key;
      std::string value;
      while (file >> key && std::getline(file >> std::ws, value)) {
        reports[rank][key] = value;
      }
      EXPECT_NE(reports[rank]["pid"], "") << "rank " << rank << " did not start";
    }
    return reports;
  }

  std::string folder_;
};

TEST_F(MpiFaults, AKilledWorkerIsKnownToItsGangAndTheController) {
  auto reports = Run("worker_killed", 4);
  for (const int survivor : {1, 2}) {
    auto& report = reports[survivor];
    // Who hears of it second may be told by the first that gives up.
    EXPECT_TRUE(report["first_failed"] == "peer_failed" || report["first_failed"] == "aborted")
        << report["first_failed"];
    EXPECT_LT(Number(report["first_failed_after_s"]), 1.5);
    EXPECT_EQ(report["second_failed"], "no");
    EXPECT_EQ(report["end"], "reached");
  }
  EXPECT_EQ(reports[0]["lost_3"], "the process has died");
  EXPECT_LT(Number(reports[0]["lost_at_s"]) - Number(reports[3]["signal_at_s"]), 2.0);
  EXPECT_EQ(reports[0].count("lost_1") + reports[0].count("lost_2"), 0U);
}

TEST_F(MpiFaults, AStoppedWorkerIsADeadlineForItsGangAndSilenceForTheController) {
  auto reports = Run("worker_stopped", 4);
  for (const int survivor : {1, 2}) {
    auto& report = reports[survivor];
    EXPECT_TRUE(report["first_failed"] == "timeout" || report["first_failed"] == "aborted")
        << report["first_failed"];
    EXPECT_LT(Number(report["first_failed_after_s"]), 2.7);  // The deadline of a wait is 1.5 s.
    EXPECT_EQ(report["second_failed"], "no");
    EXPECT_EQ(report["end"], "reached");
  }
  EXPECT_NE(reports[0]["lost_3"].find("no heartbeat for"), std::string::npos)
      << reports[0]["lost_3"];
  const double noticed_s = Number(reports[0]["lost_at_s"]) - Number(reports[3]["signal_at_s"]);
  EXPECT_GT(noticed_s, 2.5);  // 3 s of silence.
  EXPECT_LT(noticed_s, 5.0);
}

TEST_F(MpiFaults, WorkersOfADeadControllerEndWithTheRestartCode) {
  auto reports = Run("controller_killed", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[worker]["exit_code"], "75");
    // MPI says so at once; the lease is not needed.
    EXPECT_LT(Number(reports[worker]["exit_at_s"]) - Number(reports[0]["signal_at_s"]), 2.0);
    EXPECT_NE(reports[worker]["job_failed"], "") << "the job was not running";
  }
}

TEST_F(MpiFaults, WorkersOfAStoppedControllerEndWithinTheLease) {
  auto reports = Run("controller_stopped", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[worker]["exit_code"], "75");
    const double noticed_s =
        Number(reports[worker]["exit_at_s"]) - Number(reports[0]["signal_at_s"]);
    EXPECT_GT(noticed_s, 2.0);  // A lease of 3 s.
    EXPECT_LT(noticed_s, 5.0);
  }
}

TEST_F(MpiFaults, IdleRanksCostUnderSixPercentOfACoreInAll) {
  auto reports = Run("idle", 3);
  double sum = 0;
  for (auto& [rank, report] : reports) {
    const double percent = Number(report["cpu_percent"]);
    std::printf("rank %d: %.2f%% of a core\n", rank, percent);
    EXPECT_LT(percent, 2.0) << "rank " << rank;
    sum += percent;
  }
  EXPECT_LT(sum, 6.0);
}

TEST_F(MpiFaults, ACheckpointOfThirtyMegabytesKeepsItsPlaceAmongSmallMessages) {
  auto reports = Run("big_message", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[0][absl::StrCat("order_", worker)], "PCE");
    EXPECT_EQ(reports[worker]["same"], "1");
    EXPECT_LT(Number(reports[worker]["round_trip_s"]), 5.0);
    std::printf("rank %d: 2 x 30 MB in %s s\n", worker, reports[worker]["round_trip_s"].c_str());
  }
}

}  // namespace
}  // namespace imageddpo
