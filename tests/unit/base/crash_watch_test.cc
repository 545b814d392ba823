#include "common/base/crash_watch.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace imageddpo {
namespace {

/// Runs in a child process, in which another thread records what Signal() returns. @return that
/// record and the signal that ended the child.
std::pair<int, int> Crash(void (*crash)()) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    const CrashWatch watch;
    std::thread([&] {
      const CrashWatch::ThreadStack stack;
      crash();
    }).detach();
    while (watch.Signal() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const int signal_number = watch.Signal();
    if (write(ends[1], &signal_number, sizeof(signal_number)) < 0) _exit(1);
    std::this_thread::sleep_for(std::chrono::seconds(20));
    _exit(2);
  }
  close(ends[1]);
  int heard = 0;
  if (read(ends[0], &heard, sizeof(heard)) != sizeof(heard)) heard = -1;
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return {heard, WIFSIGNALED(status) ? WTERMSIG(status) : 0};
}

int Deep(volatile int* depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(*depth);
  *depth = *depth + 1;
  return *depth < 0 ? 0 : Deep(depth) + frame[0];  // Never reached: the stack ends first.
}

TEST(CrashWatch, OtherThreadsHearOfItAndTheSignalEndsTheProcess) {
  EXPECT_EQ(Crash([] { *static_cast<volatile int*>(nullptr) = 1; }), std::pair(SIGSEGV, SIGSEGV));
  EXPECT_EQ(Crash([] { std::abort(); }), std::pair(SIGABRT, SIGABRT));
  EXPECT_EQ(Crash([] { raise(SIGBUS); }), std::pair(SIGBUS, SIGBUS));
}

TEST(CrashWatch, AnEndlessRecursionIsHeardToo) {
  EXPECT_EQ(Crash([] {
              volatile int depth = 0;
              Deep(&depth);
            }),
            std::pair(SIGSEGV, SIGSEGV));
}

TEST(CrashWatch, OneAtATime) {
  const CrashWatch watch;
  EXPECT_EQ(watch.Signal(), 0);
  EXPECT_THROW(CrashWatch(), std::logic_error);
}

}  // namespace
}  // namespace imageddpo
