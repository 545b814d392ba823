// Lets a real rank die or stop, and checks what the others saw. For an MPI with fault tolerance.

#include <gtest/gtest.h>

#include "tests/dist/launch.h"

namespace imageddpo {
namespace {

TEST(MpiFaults, AKilledWorkerIsKnownToItsGangAndTheController) {
  auto reports = RunFaultRanks("worker_killed", 4);
  for (const int survivor : {1, 2}) {
    auto& report = reports[survivor];
    // The second survivor may learn of it from the first one, which gives up earlier.
    EXPECT_TRUE(report["first_failed"] == "peer_failed" || report["first_failed"] == "aborted")
        << report["first_failed"];
    EXPECT_LT(Number(report["first_failed_after_s"]), 1.5);
    EXPECT_EQ(report["second_failed"], "no");
    EXPECT_EQ(report["end"], "reached");
  }
  EXPECT_EQ(reports[0]["lost_3"], "the process has died without a word, as of signal 9 (SIGKILL)");
  EXPECT_LT(Number(reports[0]["lost_at_s"]) - Number(reports[3]["signal_at_s"]), 2.0);
  EXPECT_EQ(reports[0].count("lost_1") + reports[0].count("lost_2"), 0U);
}

TEST(MpiFaults, AStoppedWorkerIsADeadlineForItsGangAndSilenceForTheController) {
  auto reports = RunFaultRanks("worker_stopped", 4);
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

TEST(MpiFaults, WorkersOfADeadControllerEndWithTheRestartCode) {
  auto reports = RunFaultRanks("controller_killed", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[worker]["exit_code"], "75");
    // MPI says so at once; the lease is not needed.
    EXPECT_LT(Number(reports[worker]["exit_at_s"]) - Number(reports[0]["signal_at_s"]), 2.0);
    EXPECT_NE(reports[worker]["job_failed"], "") << "the job was not running";
  }
}

TEST(MpiFaults, WorkersOfAStoppedControllerEndWithinTheLease) {
  auto reports = RunFaultRanks("controller_stopped", 3);
  for (const int worker : {1, 2}) {
    EXPECT_EQ(reports[worker]["exit_code"], "75");
    const double noticed_s =
        Number(reports[worker]["exit_at_s"]) - Number(reports[0]["signal_at_s"]);
    EXPECT_GT(noticed_s, 2.0);  // A lease of 3 s.
    EXPECT_LT(noticed_s, 5.0);
  }
}

}  // namespace
}  // namespace imageddpo
