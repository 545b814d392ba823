#include "common/base/crash_watch.h"

#include <time.h>

#include <array>
#include <atomic>
#include <stdexcept>

namespace imageddpo {
namespace {

constexpr std::array kSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
constexpr long kGraceNanoseconds = 500'000'000;
constexpr size_t kHandlerStackBytes = 64 << 10;

// As in stop_flag.cc: a signal handler has no other way to reach its object.
std::atomic<int> g_crash_signal{0};
std::atomic<bool> g_watching{false};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

extern "C" void ImageddpoHandleCrash(int signal_number) {
  int expected = 0;
  if (g_crash_signal.compare_exchange_strong(expected, signal_number)) {
    timespec left = {0, kGraceNanoseconds};
    while (nanosleep(&left, &left) != 0) {
    }
  }
  raise(signal_number);  // The handler works once; this one is delivered when it returns.
}

}  // namespace

CrashWatch::CrashWatch() {
  static_assert(kSignals.size() == std::size(decltype(previous_){}));
  if (g_watching.exchange(true)) {
    throw std::logic_error("CrashWatch: another one exists in this process");
  }
  g_crash_signal.store(0);
  struct sigaction action = {};
  action.sa_handler = ImageddpoHandleCrash;
  sigemptyset(&action.sa_mask);
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_ONSTACK);
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &previous_[i]);
}

CrashWatch::~CrashWatch() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_[i], nullptr);
  g_watching.store(false);
}

int CrashWatch::Signal() const { return g_crash_signal.load(); }

CrashWatch::ThreadStack::ThreadStack() : memory_(new char[kHandlerStackBytes]) {
  stack_t stack = {};
  stack.ss_sp = memory_.get();
  stack.ss_size = kHandlerStackBytes;
  sigaltstack(&stack, &previous_);
}

CrashWatch::ThreadStack::~ThreadStack() { sigaltstack(&previous_, nullptr); }

}  // namespace imageddpo
