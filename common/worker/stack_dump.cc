#include "common/worker/stack_dump.h"

#include <absl/strings/str_cat.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr int kMostFrames = 128;
constexpr std::chrono::milliseconds kPatience{2'000}, kPause{10};

// As in crash_watch.cc: a signal handler has no other way to reach what it needs.
std::atomic<int> g_fd{-1};
std::atomic<bool> g_written{false};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

extern "C" void ImageddpoDumpStack(int /*signal_number*/) {
  const int saved = errno;
  std::array<void*, kMostFrames> frames{};
  const int count = backtrace(frames.data(), kMostFrames);
  backtrace_symbols_fd(frames.data(), count, g_fd.load());
  g_written.store(true);
  errno = saved;
}

int DumpSignal() { return SIGRTMIN + 6; }

/// What the kernel says that a thread waits in, as "nfs_wait_bit_killable"; may be empty.
std::string WaitsIn(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/wchan"));
  std::string name;
  file >> name;
  return name == "0" ? "" : name;
}

}  // namespace

absl::Status DumpStack(pid_t thread, int fd) {
  std::array<void*, 1> frame{};
  backtrace(frame.data(), 1);  // Loads what it needs, which no signal handler may do.
  g_fd.store(fd);
  g_written.store(false);
  struct sigaction action = {}, previous = {};
  action.sa_handler = ImageddpoDumpStack;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  if (sigaction(DumpSignal(), &action, &previous) != 0) return ErrnoStatus(errno, "sigaction");
  if (syscall(SYS_tgkill, getpid(), thread, DumpSignal()) != 0) {
    const absl::Status status = ErrnoStatus(errno, absl::StrCat("thread ", thread));
    sigaction(DumpSignal(), &previous, nullptr);
    return status;
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!g_written.load() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPause);
  }
  if (!g_written.load()) {  // The handler stays: the signal is still under way.
    const std::string where = WaitsIn(thread);
    return absl::DeadlineExceededError(
        absl::StrCat("the thread does not react", where.empty() ? "" : "; it waits in ", where));
  }
  sigaction(DumpSignal(), &previous, nullptr);
  return absl::OkStatus();
}

}  // namespace imageddpo
