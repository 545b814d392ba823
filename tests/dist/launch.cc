#include "tests/dist/launch.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

std::string Environment(const char* name) {
  const char* value = getenv(name);
  EXPECT_NE(value, nullptr) << name << " is not set: run by ctest";
  return value == nullptr ? "" : value;
}

}  // namespace

Reports RunFaultRanks(const std::string& scenario, int ranks) {
  std::string folder = testing::TempDir() + "fault_ranks.XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  const std::string script = Environment("IMAGEDDPO_SOURCE_DIR") + "/tests/dist/mpirun.sh";
  const std::string count = absl::StrCat(ranks);
  const pid_t child = fork();
  if (child == 0) {
    execl(script.c_str(), script.c_str(), "-n", count.c_str(), FAULT_RANKS_PROGRAM,
          scenario.c_str(), folder.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Reports reports;
  for (int rank = 0; rank < ranks; ++rank) {
    std::ifstream file(absl::StrCat(folder, "/rank-", rank));
    std::string key;
    std::string value;
    while (file >> key && std::getline(file >> std::ws, value)) {
      reports[rank][key] = value;
    }
    EXPECT_NE(reports[rank]["pid"], "") << "rank " << rank << " did not start";
  }
  std::filesystem::remove_all(folder);
  return reports;
}

double Number(const std::string& text) {
  double value = -1;
  EXPECT_TRUE(absl::SimpleAtod(text, &value)) << '"' << text << '"';
  return value;
}

}  // namespace imageddpo
