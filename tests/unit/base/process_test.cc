#include "common/base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace imageddpo {
namespace {

/// A child process that waits to be killed, and its own ThisProcess().
std::pair<pid_t, ProcessId> StartChild() {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t start_ticks = ThisProcess().start_ticks;
    if (write(ends[1], &start_ticks, sizeof(start_ticks)) < 0) _exit(1);
    while (true) pause();
  }
  ProcessId id = ThisProcess();
  id.pid = child;
  EXPECT_EQ(read(ends[0], &id.start_ticks, sizeof(id.start_ticks)),
            static_cast<ssize_t>(sizeof(id.start_ticks)));
  close(ends[0]);
  close(ends[1]);
  return {child, id};
}

TEST(Process, AStoppedOneIsKilled) {
  const auto [child, id] = StartChild();
  ASSERT_EQ(kill(child, SIGSTOP), 0);
  EXPECT_TRUE(KillProcess(id).ok());
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_TRUE(KillProcess(id).ok());  // Gone already.
}

TEST(Process, OthersAreLeftAlone) {
  const auto [child, id] = StartChild();
  ProcessId later = id;
  ++later.start_ticks;
  EXPECT_TRUE(KillProcess(later).ok());  // It is gone; another process has its number now.
  ProcessId elsewhere = id;
  elsewhere.host = "elsewhere";
  EXPECT_TRUE(absl::IsFailedPrecondition(KillProcess(elsewhere)));
  EXPECT_TRUE(absl::IsFailedPrecondition(KillProcess(ThisProcess())));
  EXPECT_TRUE(absl::IsFailedPrecondition(KillProcess({})));
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0);
  EXPECT_TRUE(KillProcess(id).ok());
  waitpid(child, &status, 0);
}

}  // namespace
}  // namespace imageddpo
